"""Ray Serve's default scaling: what it orders, and when."""

from __future__ import annotations

import pytest

from cluster.core.autoscaling import PoolDemand, Target
from cluster.core.lease import PoolName
from cluster.simulator.baselines import RequestCountScaler

POOL = PoolName("shared")
TARGET = Target(min_replicas=1, max_replicas=12)


def demand(now_s: float, ongoing: int, replicas: int, starting: int = 0) -> PoolDemand:
    return PoolDemand(
        pool=POOL, now_s=now_s, ready=replicas - starting, starting=starting, running=ongoing // 2,
        waiting=ongoing - ongoing // 2,
    )  # fmt: skip


def run(scaler: RequestCountScaler, counts: list[int], replicas: int) -> list[int]:
    """Replicas after each second; they start at once."""
    found = []
    for second, ongoing in enumerate(counts):
        replicas = scaler.decide(demand(float(second), ongoing, replicas), TARGET).replicas
        found.append(replicas)
    return found


def test_more_are_ordered_after_thirty_seconds_and_fewer_after_six_hundred() -> None:
    found = run(RequestCountScaler(ongoing_requests=2.0), [20] * 100 + [2] * 800, 1)
    assert found[29] == 1
    assert found[30] == found[99] == 10
    fell = next(second for second, replicas in enumerate(found[100:]) if replicas < 10)
    assert 600 <= fell <= 630  # the mean of 30 s has to fall first
    assert found[-1] == 1


def test_a_dip_begins_the_wait_anew() -> None:
    counts = [8] * 400 + [40] * 80 + [8] * 400
    found = run(RequestCountScaler(ongoing_requests=4.0), counts, 6)
    assert found[399] == 6  # two would do, but not for long enough yet
    assert found[479] == 10
    assert found[-1] == 10


def test_numbers_stay_within_bounds() -> None:
    assert max(run(RequestCountScaler(), [1000] * 60, 1)) == 12
    assert min(run(RequestCountScaler(), [0] * 700, 2)) == 1


def test_who_has_none_ready_keeps_what_starts() -> None:
    assert RequestCountScaler().decide(demand(0.0, 50, 3, starting=3), TARGET).replicas == 3


def test_nothing_wanted_at_each_replica_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 0"):
        RequestCountScaler(ongoing_requests=0.0)
