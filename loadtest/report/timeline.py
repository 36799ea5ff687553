"""A run second by second.

What must not live here: plots of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

from cluster.simulator.report.metrics import percentile
from loadtest.record import Record
from loadtest.report.times import ttft_s

STEPS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600)
STEPS_MAX = 600
"""Longer runs have longer steps: as many figures as programs want to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What happened from `at_s` on, for `step_s` seconds; counts are of this step, not a second's."""

    at_s: float
    step_s: float
    due: int
    sent: int
    done: int
    failed: int
    """Refused ones included."""
    in_flight: int
    """Sent and not ended, at the step's end."""
    ttft_p50_s: float
    """Of answers to requests that were due in this step; nan where there are none."""
    ttft_p95_s: float
    output_tokens: int
    """That arrived in this step: an answer's tokens spread over its events."""


def step_of(seconds: float, most: int = STEPS_MAX) -> int:
    """How long steps are in a run of so many seconds, for at most so many steps."""
    return next((step for step in STEPS_S if seconds / step <= most), STEPS_S[-1])


def timeline(records: Sequence[Record], seconds: float, most: int = STEPS_MAX) -> tuple[Step, ...]:
    """All steps to the end of the run or of its last answer, whichever is later.

    Args:
        records: all of the run, its warm-up included.
        seconds: the run's.
        most: at most about so many steps.
    """
    end_s = max([seconds, *(record.ended_s for record in records)])
    step_s = step_of(end_s, most)
    count = int(end_s // step_s) + 1
    due, sent, done, failed, begun, over = ([0] * count for _ in range(6))
    tokens = [0.0] * count
    ttfts: list[list[float]] = [[] for _ in range(count)]

    def place(at_s: float) -> int:
        return min(max(int(at_s // step_s), 0), count - 1)

    for record in records:
        due[place(record.due_s)] += 1
        sent[place(record.sent_s)] += 1
        (failed if record.error else done)[place(record.ended_s)] += 1
        begun[place(record.sent_s)] += 1
        over[place(record.ended_s)] += 1
        first_s = ttft_s(record)
        if first_s is not None and not record.error:
            ttfts[place(record.due_s)].append(first_s)
        if record.first_token_s is not None and record.output_tokens:
            _spread(tokens, record, record.first_token_s, step_s)
    steps, in_flight = [], 0
    for number in range(count):
        in_flight += begun[number] - over[number]
        ordered = sorted(ttfts[number])
        steps.append(
            Step(
                at_s=float(number * step_s),
                step_s=float(step_s),
                due=due[number],
                sent=sent[number],
                done=done[number],
                failed=failed[number],
                in_flight=in_flight,
                ttft_p50_s=percentile(ordered, 50) if ordered else nan,
                ttft_p95_s=percentile(ordered, 95) if ordered else nan,
                output_tokens=round(tokens[number]),
            )
        )
    return tuple(steps)


def _spread(tokens: list[float], record: Record, first_s: float, step_s: int) -> None:
    """Add an answer's tokens where its events were."""
    share = record.output_tokens / (len(record.gaps_s) + 1)
    at_s, last = first_s, len(tokens) - 1
    tokens[min(max(int(at_s // step_s), 0), last)] += share
    for gap_s in record.gaps_s:
        at_s += gap_s
        tokens[min(max(int(at_s // step_s), 0), last)] += share
