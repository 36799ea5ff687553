"""When a run ends before its time: too many errors, or first tokens that come too late.

What must not live here: clocks; time comes from records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.client.answer import ErrorKind
from loadtest.client.health import quantile
from loadtest.record import Record

WINDOW_S = 10.0
"""Long enough for one bad second not to end a run, short enough that an overload ends it before it is over."""
LEAST = 20
"""Requests in the window below which it says nothing."""
P95 = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRules:
    """Limits over the last seconds; None: no limit."""

    errors_ratio: float | None = None
    """Of requests that failed; those that the client did not send count."""
    ttft_s: float | None = None
    """Of the time to first token at p95, from when each request was due."""


class Recent:
    """The requests that ended in the last `WINDOW_S` seconds of a run."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque()

    def add(self, record: Record) -> None:
        """Another one has ended. Several processes' come in no exact order; a second or so does not matter."""
        self._records.append(record)

    def until(self, now_s: float) -> Sequence[Record]:
        """Those of the window that ends at `now_s`, on the run's clock."""
        while self._records and self._records[0].ended_s < now_s - WINDOW_S:
            self._records.popleft()
        return self._records


def ttfts_s(records: Sequence[Record]) -> list[float]:
    """The time to first token of each that had one."""
    return [record.first_token_s - record.due_s for record in records if record.first_token_s is not None]


def verdict(rules: StopRules, recent: Sequence[Record]) -> str:
    """Why the run should end now; empty: it should not.

    Args:
        rules: the limits.
        recent: the requests that ended in the last seconds, warm-up excluded.
    """
    if len(recent) < LEAST:
        return ""
    failed = sum(record.error != ErrorKind.NONE for record in recent) / len(recent)
    if rules.errors_ratio is not None and failed > rules.errors_ratio:
        return f"{failed:.0%} of the requests of the last {WINDOW_S:g} s failed, over {rules.errors_ratio:.0%}"
    first = ttfts_s(recent)
    if rules.ttft_s is not None and len(first) >= LEAST and (p95 := quantile(first, P95)) > rules.ttft_s:
        return f"TTFT of the last {WINDOW_S:g} s is {p95:.3g} s at p95, over {rules.ttft_s:g} s"
    return ""
