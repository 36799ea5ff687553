"""One pool's demand from leases and gateways."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.core.autoscaling.asked import GatewayAsked, PoolAsked
from cluster.core.autoscaling.demand import PoolDemand, PoolSpeed
from cluster.core.autoscaling.gather import Gatherer
from cluster.core.autoscaling.speed import SpeedCounters
from cluster.core.autoscaling.work import ReplicaWork
from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaState

SHORT = PoolName("short")
SPEED = PoolSpeed(prefill_tokens_per_s=9, decode_tokens_per_s=8, decode_sequences=2, kv_tokens=7, max_running=6)


def lease(name: str, **fields: Any) -> Lease:
    made = Lease(
        replica_id=ReplicaId(name), pool=SHORT, model="m", url="http://h:1", state=ReplicaState.READY,
        context_tokens=100, running=2, waiting=1, kv_use_ratio=0.5, step_age_s=0.0, max_running=8, prefill_tokens=300,
    )  # fmt: skip
    return replace(made, **fields)


def work(busy_s: float, *, startup_s: float = 0.0) -> dict[str, Any]:
    counters = SpeedCounters(
        prefill_tokens=int(1000 * busy_s), prefill_busy_s=busy_s, prefill_token_s=5000 * busy_s,
        decode_tokens=int(50 * busy_s), decode_busy_s=busy_s, decode_sequence_s=2 * busy_s,
    )  # fmt: skip
    return ReplicaWork(counters=counters, kv_tokens=4096, resident_tokens=2000, startup_s=startup_s).to_dict()


def test_everybody_is_added_up() -> None:
    gateways = [
        GatewayAsked(gateway="a", pools={SHORT: PoolAsked(held=2, held_tokens=40, oldest_wait_s=3.0)}),
        GatewayAsked(gateway="b", pools={SHORT: PoolAsked(held=1, held_tokens=2, oldest_wait_s=1.0)}),
    ]
    leases = [lease("x"), lease("y", kv_use_ratio=0.1, running=5), lease("other", pool=PoolName("long"))]
    found = Gatherer(SHORT).demand(leases, gateways, target=3, now_s=7.0)
    assert (found.ready, found.starting, found.running, found.waiting, found.held) == (2, 1, 7, 2, 3)
    assert (found.prefill_tokens, found.oldest_wait_s, found.now_s) == (642, 3.0, 7.0)
    assert found.kv_use_ratio == pytest.approx(0.3)
    assert (found.speed, found.startup_s) == (None, None)


def test_who_leaves_is_not_there() -> None:
    draining = lease("x", state=ReplicaState.DRAINING)
    assert Gatherer(SHORT).demand([draining], [], target=1, now_s=0.0).ready == 0
    # Serve wants one less, and whom it chooses does not drain yet.
    assert Gatherer(SHORT).demand([lease("x"), lease("y")], [], target=1, now_s=0.0).ready == 1


def test_another_ray_cluster_in_the_pool_is_not_ours_to_count() -> None:
    """An upgrade's, whose own policy decides about it."""
    leases = [lease("old", ray_cluster="one"), lease("new", ray_cluster="two")]
    assert Gatherer(SHORT, ray_cluster="two").demand(leases, [], target=2, now_s=0.0).ready == 1


def test_speed_is_measured_and_outlives_the_replicas() -> None:
    gatherer = Gatherer(SHORT)
    gatherer.demand([lease("x", work=work(0.0))], [], target=1, now_s=0.0)
    measured = gatherer.demand([lease("x", work=work(10.0))], [], target=1, now_s=10.0).speed
    assert measured is not None
    assert gatherer.demand([lease("x", work=work(10.0)), lease("y")], [], target=2, now_s=10.5).resident_tokens == 2000
    assert measured.prefill_tokens_per_s == pytest.approx(1000)
    assert measured.decode_tokens_per_s == pytest.approx(50)
    assert (measured.kv_tokens, measured.max_running) == (4096, 8)
    assert gatherer.demand([], [], target=0, now_s=20.0).speed == measured


def test_an_earlier_controllers_measurements_are_taken_over() -> None:
    before = PoolDemand(pool=SHORT, now_s=1e6, ready=1, speed=SPEED, startup_s=40.0)
    found = Gatherer(SHORT, before=before).demand([], [], target=0, now_s=0.0)
    assert (found.speed, found.startup_s) == (SPEED, 40.0)


def test_a_start_is_measured_from_its_order() -> None:
    gatherer = Gatherer(SHORT)
    # The pool was submitted with one replica just now.
    assert gatherer.demand([], [], target=1, now_s=5.0).startup_s is None
    # Until somebody waited for one, what a replica says of itself is the best guess.
    own = Gatherer(SHORT).demand([lease("x", work=work(0.0, startup_s=20.0))], [], target=1, now_s=0.0)
    assert own.startup_s == 20.0
    found = gatherer.demand([lease("x", work=work(0.0, startup_s=20.0))], [], target=1, now_s=30.0)
    assert found.startup_s == 25.0
