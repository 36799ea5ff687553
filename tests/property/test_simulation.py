"""What holds for every simulation: nothing is lost or made up, time goes on, the same seed gives the same run."""

from __future__ import annotations

from itertools import pairwise
from math import isnan

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.simulator.cluster import Failure, GatewaySpec
from cluster.simulator.outcome import Fate, Result
from cluster.simulator.simulate import simulate
from cluster.simulator.trace import Trace
from tests.simulated import LONG, SHORT, cluster, trace

FATES_WITHOUT_ANSWER = set(Fate) - {Fate.DONE, Fate.LOST, Fate.OPEN}

runs = st.fixed_dictionaries(
    {
        "requests": st.integers(1, 60),
        "rate": st.sampled_from([2.0, 20.0, 200.0]),
        "seed": st.integers(0, 5),
        "short": st.integers(0, 3),
        "queue_s": st.sampled_from([0.0, 0.5, 20.0]),
        "policy": st.sampled_from(["balanced", "round-robin", "prefix", "least-work", "session"]),
        "failures": st.lists(st.tuples(st.floats(0, 8), st.sampled_from([SHORT, LONG])), max_size=3),
    }
)


def run(case: dict[str, object]) -> tuple[Trace, Result]:
    came = trace(case["requests"], rate=case["rate"], seed=case["seed"])
    failures = tuple(Failure(at_s=at_s, pool=pool) for at_s, pool in sorted(case["failures"]))
    spec = cluster(
        short=case["short"],
        failures=failures,
        gateway=GatewaySpec(
            policy=case["policy"], queue_s=case["queue_s"], queued_requests=16, default_output_tokens=64
        ),
    )
    return came, simulate(came, spec, seed=case["seed"])


@settings(max_examples=120, deadline=None)
@given(case=runs)
def test_every_request_ends_once_and_with_what_it_asked(case: dict[str, object]) -> None:
    came, result = run(case)
    for asked, got in zip(came.requests, result.outcomes, strict=True):
        assert got.fate is not Fate.OPEN
        assert got.ended_s >= got.arrived_s == asked.arrival_s
        if got.fate is Fate.DONE:
            assert got.output_tokens == asked.output_tokens
            assert got.arrived_s <= got.sent_s < got.first_token_s <= got.ended_s
            computed = got.prefilled_tokens + got.cached_tokens
            assert computed >= asked.prompt_tokens
            if not got.preemptions and not case["failures"]:
                assert computed == asked.prompt_tokens
        elif got.fate in FATES_WITHOUT_ANSWER:
            assert isnan(got.first_token_s)
            assert got.output_tokens == 0


@settings(max_examples=60, deadline=None)
@given(case=runs)
def test_tokens_in_are_tokens_out(case: dict[str, object]) -> None:
    _, result = run(case)
    pools, outcomes = result.pools.values(), result.outcomes
    assert sum(pool.prefilled_tokens for pool in pools) >= sum(outcomes.prefilled_tokens)
    assert sum(pool.decoded_tokens for pool in pools) >= sum(outcomes.output_tokens)
    assert sum(pool.preemptions for pool in pools) == sum(outcomes.preemptions)
    if not case["failures"]:
        assert sum(pool.prefilled_tokens for pool in pools) == sum(outcomes.prefilled_tokens)
        assert sum(pool.decoded_tokens for pool in pools) == sum(outcomes.output_tokens)
    for pool in pools:
        assert 0 <= pool.busy_s <= pool.replica_s + 1e-9


@settings(max_examples=40, deadline=None)
@given(case=runs)
def test_the_same_seed_gives_the_same_run(case: dict[str, object]) -> None:
    _, first = run(case)
    _, second = run(case)
    assert repr(list(first.outcomes)) == repr(list(second.outcomes))
    assert (first.pools, first.sizes, first.events, first.ended_s) == (
        second.pools, second.sizes, second.events, second.ended_s,
    )  # fmt: skip
    assert all(earlier.at_s <= later.at_s for earlier, later in pairwise(first.sizes))
