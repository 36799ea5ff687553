from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.core.autoscaling import Decision, PoolDemand, Target
from cluster.core.autoscaling.target import Bound
from cluster.simulator.cluster import ClusterSpec, Failure, GatewaySpec
from cluster.simulator.outcome import Fate, Result
from cluster.simulator.simulate import simulate
from cluster.simulator.trace import Trace, TraceRequest
from tests.simulated import BLOCK_TOKENS, LONG, SHORT, cluster, trace, with_replica


def requests(*rows: TraceRequest) -> Trace:
    return Trace(name="written", block_tokens=BLOCK_TOKENS, requests=rows)


def with_target(spec: ClusterSpec, target: Target, every_s: float = 1.0) -> ClusterSpec:
    short, long = spec.pools
    return replace(spec, pools=(replace(short, target=target), long), autoscale_every_s=every_s)


def fates(result: Result) -> set[Fate]:
    return set(map(Fate, result.outcomes.fate))


def test_an_empty_trace_is_a_run_of_nothing() -> None:
    assert len(simulate(requests(), cluster()).outcomes) == 0


def test_a_lone_request_takes_its_steps_and_its_way_in() -> None:
    spec = cluster()
    cost = spec.pools[0].replica.cost
    got = simulate(requests(TraceRequest(1.0, 100, 3)), spec).outcomes[0]
    prefill_s = cost.step_s(prefill_tokens=100, attended_tokens=5_050, decoding=0, context_tokens=0)
    decode_s = sum(
        cost.step_s(prefill_tokens=0, attended_tokens=0, decoding=1, context_tokens=100 + token) for token in (1, 2)
    )
    assert got.ttft_s == pytest.approx(spec.pools[0].replica.entry_s + prefill_s)
    assert got.ended_s - got.first_token_s == pytest.approx(decode_s)
    assert (got.pool, got.fate) == (0, Fate.DONE)


def test_pools_take_what_fits_and_nobody_what_does_not() -> None:
    got = simulate(
        requests(TraceRequest(0.0, 1_000, 5), TraceRequest(1.0, 9_000, 5), TraceRequest(2.0, 60_000, 5)), cluster()
    ).outcomes
    assert [(row.fate, row.pool) for row in got] == [(Fate.DONE, 0), (Fate.DONE, 1), (Fate.TOO_LONG, -1)]


def test_the_second_turn_finds_what_the_first_left() -> None:
    blocks = tuple(range(10))
    first = TraceRequest(0.0, 10 * BLOCK_TOKENS, 5, blocks, session=1)
    second = TraceRequest(5.0, 10 * BLOCK_TOKENS + 30, 5, blocks, session=1)
    got = simulate(requests(first, second), cluster(short=3, gateway=GatewaySpec(policy="prefix"))).outcomes
    assert [row.cached_tokens for row in got] == [0, 10 * BLOCK_TOKENS]
    assert got[0].replica == got[1].replica


def test_too_much_for_too_few_is_refused_in_its_own_words() -> None:
    came = trace(200, rate=200.0, longest=1_500)
    no_line = simulate(came, cluster(short=1, gateway=GatewaySpec(queue_s=0.0, default_output_tokens=90)))
    assert fates(no_line) == {Fate.DONE, Fate.QUEUE_FULL}
    short_line = simulate(came, cluster(short=1, gateway=GatewaySpec(queue_s=0.3, default_output_tokens=90)))
    assert fates(short_line) == {Fate.DONE, Fate.QUEUE_TIME}
    hasty = simulate(came, cluster(short=1, gateway=GatewaySpec(request_s=0.2, queue_s=60.0, default_output_tokens=90)))
    assert fates(hasty) <= {Fate.DONE, Fate.HOPELESS, Fate.DEADLINE}
    assert Fate.DONE not in fates(hasty) or len(fates(hasty)) > 1


def test_a_short_request_spills_where_its_pool_is_full() -> None:
    spec = with_replica(cluster(short=1, long=2), max_running=4)
    result = simulate(trace(40, rate=100.0, longest=1_000), spec)
    assert result.pools[LONG].sent_requests > 0
    assert fates(result) == {Fate.DONE}


def test_a_dead_replica_loses_streams_and_its_other_requests_go_elsewhere() -> None:
    came = trace(60, rate=30.0, longest=1_500)
    result = simulate(came, cluster(short=2, failures=(Failure(at_s=1.0, pool=SHORT),)))
    assert fates(result) == {Fate.DONE, Fate.LOST}
    sizes = [(size.ready, size.starting) for size in result.sizes if size.pool == SHORT]
    assert sizes[:2] == [(2, 0), (1, 1)]


def test_without_any_replica_there_is_no_endpoint() -> None:
    result = simulate(trace(5, rate=10.0, longest=1_000), cluster(short=0, long=0))
    assert fates(result) == {Fate.NO_ENDPOINT}


class Fixed:
    """Asks for one number of replicas, from a moment on."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        self.demands: list[PoolDemand] = []

    def decide(self, demand: PoolDemand, _: Target) -> Decision:
        self.demands.append(demand)
        return Decision(
            pool=demand.pool,
            at_s=demand.now_s,
            replicas=self.replicas,
            current=demand.ready + demand.starting,
            needed_now=0.0,
            needed_ahead=0.0,
            bound=Bound.PINNED,
            reason="fixed",
        )


def test_what_the_scaler_orders_serves_after_its_start() -> None:
    spec = with_target(cluster(short=0, long=0), Target(min_replicas=0, max_replicas=4))
    scaler = Fixed(2)
    result = simulate(trace(60, rate=3.0, longest=1_000), spec, scaler=scaler)
    assert fates(result) == {Fate.DONE}
    assert min(result.outcomes.sent_s) >= 5.0
    assert scaler.demands[1].starting == 2
    assert max(demand.held for demand in scaler.demands) > 0
    arrivals = [demand.arrivals.requests for demand in scaler.demands]
    assert arrivals == sorted(arrivals)
    assert 50 < arrivals[-1] <= 60
    assert scaler.demands[-1].speed is not None


def test_replicas_that_are_let_go_finish_what_they_have() -> None:
    spec = with_target(cluster(short=4), Target(min_replicas=0, max_replicas=4), every_s=0.7)
    result = simulate(trace(80, rate=40.0, longest=1_000), spec, scaler=Fixed(1))
    assert Fate.LOST not in fates(result)
    assert result.decisions[0].replicas == 1
    assert result.pools[SHORT].replica_s < 4 * result.ended_s


def test_the_production_policy_grows_a_pool_that_is_asked_for_too_much() -> None:
    spec = with_target(cluster(short=1), Target(min_replicas=1, max_replicas=6))
    result = simulate(trace(1_500, rate=25.0, longest=1_500), spec)
    most = max(size.ready for size in result.sizes if size.pool == SHORT)
    assert most > 1
    assert result.decisions


def test_a_trace_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of the replica"):
        simulate(Trace(name="odd", block_tokens=50, requests=(TraceRequest(0.0, 10, 1),)), cluster())
    with pytest.raises(ValueError, match="prompt of 0 tokens"):
        simulate(requests(TraceRequest(0.0, 0, 1)), cluster())


def test_time_can_be_cut_short() -> None:
    result = simulate(trace(100, rate=10.0), cluster(), until_s=2.0)
    assert Fate.OPEN in fates(result)
    assert result.ended_s <= 2.5
