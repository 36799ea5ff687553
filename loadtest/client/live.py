"""What a run looks like under way: counts of all processes, and what the last seconds were like.

What must not live here: drawing it (cluster/cli), ending a run (stopping.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.client.health import quantile
from loadtest.client.runner import Counts
from loadtest.client.stopping import P95, Recent, ttfts_s
from loadtest.record import Record

P50 = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One moment of a run."""

    elapsed_s: float
    counts: Counts
    ttft_p50_s: float
    """Of the last seconds; 0: no first token came."""
    ttft_p95_s: float
    sent_per_s: float
    """Of the last seconds."""


class Live:
    """Follows a run."""

    def __init__(self, processes: int) -> None:
        self._counts = [Counts() for _ in range(processes)]
        self._sent: deque[tuple[float, int]] = deque()
        self.recent = Recent()

    def hear(self, process: int, counts: Counts, records: Sequence[Record]) -> None:
        """What one process told."""
        self._counts[process] = counts
        for record in records:
            self.recent.add(record)

    def snapshot(self, now_s: float, window_s: float) -> Snapshot:
        """This moment.

        Args:
            now_s: on the run's clock.
            window_s: how long "the last seconds" are.
        """
        total = Counts(
            sum(one.sent for one in self._counts),
            sum(one.in_flight for one in self._counts),
            sum(one.done for one in self._counts),
            sum(one.failed for one in self._counts),
        )
        self._sent.append((now_s, total.sent))
        while len(self._sent) > 2 and self._sent[0][0] < now_s - window_s:  # noqa: PLR2004 - a difference needs two
            self._sent.popleft()
        then_s, then = self._sent[0]
        first = ttfts_s(self.recent.until(now_s))
        return Snapshot(
            elapsed_s=now_s,
            counts=total,
            ttft_p50_s=quantile(first, P50),
            ttft_p95_s=quantile(first, P95),
            sent_per_s=(total.sent - then) / (now_s - then_s) if now_s > then_s else 0.0,
        )
