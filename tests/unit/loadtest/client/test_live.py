from __future__ import annotations

from loadtest.client.live import Live
from loadtest.client.runner import Counts
from tests.unit.loadtest.client.records import failed, good


def test_a_snapshot_adds_processes_up() -> None:
    live = Live(2)
    live.hear(0, Counts(5, 1, 3, 1), [good(1.0, ttft_s=0.2), failed(1.5)])
    live.hear(1, Counts(7, 2, 5, 0), [good(1.0, ttft_s=0.4)])
    now = live.snapshot(2.0, 10.0)
    assert now.counts == Counts(12, 3, 8, 1)
    assert (round(now.ttft_p50_s, 6), round(now.ttft_p95_s, 6)) == (0.4, 0.4)


def test_the_rate_is_that_of_the_last_seconds() -> None:
    live = Live(1)
    for second in range(30):
        live.hear(0, Counts(100 if second < 20 else 100 + 5 * (second - 19)), [])
        now = live.snapshot(float(second), 5.0)
    assert now.sent_per_s == 5.0
