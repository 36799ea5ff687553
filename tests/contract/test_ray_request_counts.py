"""The simulator's model of Serve's request counts against the code of the pinned Ray, second by second."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from ray.serve import autoscaling_policy
from ray.serve.config import AutoscalingConfig

from cluster.core.autoscaling import PoolDemand, Target
from cluster.core.lease import PoolName
from cluster.simulator.baselines import RequestCountScaler

TARGET = Target(min_replicas=1, max_replicas=12)


@given(
    counts=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 60)), min_size=1, max_size=6),
    ongoing=st.sampled_from([1.0, 2.0, 5.0]),
    replicas=st.integers(1, 12),
)
def test_the_baseline_decides_as_serve_does(counts: list[tuple[int, int]], ongoing: float, replicas: int) -> None:
    config = AutoscalingConfig(target_ongoing_requests=ongoing, max_replicas=12)
    scaler, now_s = RequestCountScaler(ongoing_requests=ongoing), 0.0
    state: dict[str, Any] = {}
    window: list[tuple[float, int]] = []
    for seconds, count in counts:
        for _ in range(seconds):
            window = [(at_s, one) for at_s, one in (*window, (now_s, count)) if at_s >= now_s - 30.0]
            mean = sum(one for _, one in window) / len(window)
            context = SimpleNamespace(
                config=config, current_num_replicas=replicas, target_num_replicas=replicas, total_num_requests=mean
            )
            desired, _ = autoscaling_policy._core_replica_queue_length_policy(context)
            scaled = autoscaling_policy._apply_scaling_factors(desired, replicas, config)
            theirs, state = autoscaling_policy._apply_delay_logic(max(0, scaled), replicas, config, state, _now=now_s)
            demand = PoolDemand(pool=PoolName("shared"), now_s=now_s, ready=replicas, running=count)
            ours = scaler.decide(demand, TARGET).replicas
            assert ours == min(max(theirs, 1), 12)
            replicas, now_s = ours, now_s + 1.0
