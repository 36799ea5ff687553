"""The knee of a ramp: from which rate on the service no longer keeps up.

What must not live here: the ramp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from loadtest.record import Record
from loadtest.report.level import Level, is_good

WINDOWS = 30
"""A ramp is looked at in so many parts of equal time."""
WINDOWS_MIN = 4
"""Fewer have no shape."""
WINDOW_REQUESTS_MIN = 5
"""With fewer in each window, in the mean, there are fewer windows."""
GROWTH_MIN = 2.0
"""The last third of a run must have so many times the requests of the first, to be a ramp."""
GOOD_RATIO_MIN = 0.95
ABOVE_MIN = 2
ANSWERED_RATIO_MAX = 0.9
"""A capacity is passed where two windows offered more and at most this part of it was answered: less is chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A part of the ramp."""

    at_s: float
    offered_per_s: float
    """Requests that were due in it."""
    answered_per_s: float
    """Answers that ended in it."""
    good_ratio: float
    """Of those that were due in it; 1 where none was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """What the ramp showed."""

    windows: tuple[Window, ...]
    good_per_s: float
    """The highest offered rate before two windows in a row had less than 95% of their requests good; 0: there was
    none before. A single such window, as with a cold start, is no end."""
    capacity_per_s: float
    """Where answers stop growing with requests: the least-squares fit of answered = min(offered, capacity)."""
    is_reached: bool
    """Whether clearly more was offered than the capacity; else the ramp ended too early to find it, and the capacity is
    the highest rate that was offered."""


def find_knee(records: Sequence[Record], level: Level) -> Knee | None:
    """The knee; None where the run was no ramp, or is too short to tell.

    Args:
        records: those that count.
        level: what counts as good.
    """
    if not records:
        return None
    begin_s, end_s = min(record.due_s for record in records), max(record.due_s for record in records)
    count = min(WINDOWS, len(records) // WINDOW_REQUESTS_MIN)
    if end_s <= begin_s or count < WINDOWS_MIN or not _is_ramp(records, begin_s, end_s):
        return None
    step_s = (end_s - begin_s) / count
    due, ended, good = [0] * count, [0] * count, [0] * count
    for record in records:
        place = min(int((record.due_s - begin_s) / step_s), count - 1)
        due[place] += 1
        good[place] += is_good(record, level)
        # What ends after the last was due is no answer to the rate that is offered.
        last = int((record.ended_s - begin_s) / step_s)
        if last < count and not record.error:
            ended[last] += 1
    windows = tuple(
        Window(
            at_s=begin_s + place * step_s,
            offered_per_s=due[place] / step_s,
            answered_per_s=ended[place] / step_s,
            good_ratio=good[place] / due[place] if due[place] else 1.0,
        )
        for place in range(count)
    )
    capacity = _capacity(windows)
    above = [window for window in windows if window.offered_per_s > capacity]
    offered, answered = sum(one.offered_per_s for one in above), sum(one.answered_per_s for one in above)
    is_reached = len(above) >= ABOVE_MIN and answered < ANSWERED_RATIO_MAX * offered
    return Knee(
        windows=windows,
        good_per_s=_good(windows),
        capacity_per_s=capacity if is_reached else max(window.offered_per_s for window in windows),
        is_reached=is_reached,
    )


def _is_ramp(records: Sequence[Record], begin_s: float, end_s: float) -> bool:
    third_s = (end_s - begin_s) / 3
    first = sum(record.due_s < begin_s + third_s for record in records)
    last = sum(record.due_s >= end_s - third_s for record in records)
    return last >= GROWTH_MIN * max(first, 1)


def _good(windows: Sequence[Window]) -> float:
    is_bad = [window.good_ratio < GOOD_RATIO_MIN for window in windows]
    # After the last window nothing is known: where it is bad, it counts as the first of two.
    ends = (place for place, (here, there) in enumerate(pairwise([*is_bad, True])) if here and there)
    kept = windows[: next(ends, len(windows))]
    return max((window.offered_per_s for window in kept if window.good_ratio >= GOOD_RATIO_MIN), default=0.0)


def _capacity(windows: Sequence[Window]) -> float:
    """The capacity whose broken line is nearest to what was answered; the largest offered rate where none bends it.

    The squared error is a parabola between two neighbouring offered rates: its least is at an end, or at the mean of
    what was answered by the windows above.
    """
    ordered = sorted(windows, key=lambda window: window.offered_per_s)
    rates = [window.offered_per_s for window in ordered]
    candidates = list(rates)
    for place in range(len(ordered)):
        above = ordered[place:]
        low = rates[place - 1] if place else 0.0
        candidates.append(min(max(sum(one.answered_per_s for one in above) / len(above), low), rates[place]))

    def error(capacity: float) -> float:
        return sum((window.answered_per_s - min(window.offered_per_s, capacity)) ** 2 for window in windows)

    return min(sorted(candidates, reverse=True), key=error)
