"""Fewer only after fewer have done for a while."""

from __future__ import annotations

import pytest

from cluster.core.autoscaling.hysteresis import PATIENCE_MAX, WARM_MAX_STARTS, Hysteresis


def test_the_most_within_the_window_counts() -> None:
    memory = Hysteresis()
    for second, replicas in enumerate([3, 5, 2, 4, 1, 1, 1]):
        memory.add(second, replicas)
    assert memory.least(6, 2) == 1
    assert memory.least(6, 3) == 4
    assert memory.least(6, 5) == 5
    assert memory.least(6, 7) is None


@pytest.mark.parametrize(("recompute_s", "window_s"), [(0, 60), (30, 90), (10_000, 60 + WARM_MAX_STARTS * 60)])
def test_a_warm_cache_postpones_up_to_a_bound(recompute_s: float, window_s: float) -> None:
    assert Hysteresis().window_s(0, 3, startup_s=60, recompute_s=recompute_s) == window_s


def test_regret_doubles_the_window_and_peace_halves_it() -> None:
    memory = Hysteresis()

    def window_s(now_s: float, replicas: int) -> float:
        return memory.window_s(now_s, replicas, startup_s=60, recompute_s=0)

    now_s = 0.0
    for regrets in range(1, 6):
        assert window_s(now_s, 3) == 60 * min(2 ** (regrets - 1), PATIENCE_MAX)
        window_s(now_s + 1, 2)
        assert window_s(now_s + 2, 3) == 60 * min(2**regrets, PATIENCE_MAX)
        now_s += 10
    window_s(now_s, 2)
    assert window_s(now_s + 60 * PATIENCE_MAX + 1, 2) == 60 * PATIENCE_MAX / 2
