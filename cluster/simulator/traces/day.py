"""A trace as a day brings it: quiet at night, busy at noon, with the trace's own requests in their own order.

The trace is repeated until the day is full, and its clock is bent so that requests come with the rate

    mean x (1 - swing cos(2 pi t / day)),

slowest at the beginning and the end, fastest in the middle. Nothing is drawn: no request is left out and none comes
twice, so lengths, order and reuse stay, and what is uneven within minutes stays as uneven. The bent clock t of the even
one m solves Kepler's equation, m = t - swing sin(t) with the day as the circle. What must not live here: the mean rate
(shape.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, cos, pi, sin

from cluster.simulator.trace import Trace
from cluster.simulator.traces.overlay import Copies
from cluster.simulator.traces.reader import REQUESTS_MAX
from cluster.simulator.traces.shape import duration_s, rate_per_s

SWING = 0.7
"""Of the mean, up and down: the busiest minute has 1.7 times the mean, 5.7 times the quietest. Chosen, not measured:
the public traces are an hour long."""
SWING_MAX = 0.99
"""With 1 nothing would come at midnight, and the clock could not be bent back."""
HOURS = 24.0
HOURS_MAX = 168.0
NEWTON_STEPS_MAX = 60
NEARLY = 1e-12
"""Of a circle: under a millionth of a second of a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """How long a day is, and how far its rate swings."""

    hours: float = HOURS
    """Fewer than 24 are a day in a hurry: the load rises as much in less time, which is harder to follow."""
    swing: float = SWING

    def __post_init__(self) -> None:
        if not 0 < self.hours <= HOURS_MAX:
            raise ValueError(f"a day of {self.hours:g} hours: over 0, at most {HOURS_MAX:g}")
        if not 0 <= self.swing <= SWING_MAX:
            raise ValueError(f"a swing of {self.swing:g}: from 0 to {SWING_MAX:g} of the mean rate")


def day_of(text: str) -> Day:
    """The day that `day`, `day=4` (hours) or `day=4,swing=0.5` means.

    Raises:
        ValueError: it means nothing.
    """
    found = Day()
    for part in text.split(","):
        key, has_number, number = part.partition("=")
        name = {"day": "hours", "swing": "swing"}.get(key.strip())
        if name is None or not (has_number or name == "hours"):
            raise ValueError(f"{part!r} is no shape: name day=HOURS,swing=RATIO, as day=4,swing=0.7")
        if has_number:
            try:
                value = float(number)
            except ValueError:
                raise ValueError(f"{part!r} has no number: name day=HOURS,swing=RATIO, as day=4,swing=0.7") from None
            found = replace(found, hours=value) if name == "hours" else replace(found, swing=value)
    return found


def over_a_day(trace: Trace, day: Day) -> Trace:
    """The trace, again and again, over one day that has its mean rate.

    Args:
        trace: two requests or more, not all at one moment.
        day: its length and its swing.

    Raises:
        ValueError: the trace has no rate, or the day would have more requests than fit in memory.
    """
    per_s, day_s = rate_per_s(trace), day.hours * 3600.0
    if per_s * day_s > REQUESTS_MAX:
        raise ValueError(f"a day of {day.hours:g} hours has {per_s * day_s:,.0f} requests, at most {REQUESTS_MAX:,}")
    # One mean gap lies between the last request of a copy and the first of the next.
    begin_s, copy_s = trace.requests[0].arrival_s, duration_s(trace) + 1.0 / per_s
    anew = Copies(trace)
    requests = []
    for copy in range(ceil(day_s / copy_s)):
        for one in trace.requests:
            even_s = copy * copy_s + one.arrival_s - begin_s
            if even_s >= day_s:
                break
            requests.append(anew.request(one, copy, bent_s(even_s, day_s, day.swing)))
    return replace(trace, name=f"{trace.name}+day", requests=tuple(requests))


def bent_s(even_s: float, day_s: float, swing: float) -> float:
    """When something comes that would come at `even_s` at the mean rate: Kepler's equation, by Newton's method."""
    wanted = 2 * pi * even_s / day_s
    low, high, at = 0.0, 2 * pi, wanted
    for _ in range(NEWTON_STEPS_MAX):
        off = at - swing * sin(at) - wanted
        if abs(off) <= NEARLY:
            break
        low, high = (at, high) if off < 0 else (low, at)
        at -= off / (1 - swing * cos(at))
        if not low < at < high:
            at = (low + high) / 2
    return at / (2 * pi) * day_s
