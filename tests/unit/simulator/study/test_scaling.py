"""What autoscaling saves: comparisons of contenders made up, and a whole comparison on a small trace."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.capacity.step import StepCost
from cluster.core.lease import PoolName
from cluster.simulator.baselines import Baseline, RequestCountScaler
from cluster.simulator.cluster import ReplicaSpec
from cluster.simulator.outcome import Size
from cluster.simulator.report.metrics import BandFigures, Figures, Percentiles
from cluster.simulator.study.scaling import (
    Contender,
    Family,
    Scaling,
    ScalingQuestion,
    cards_over_time,
    longreach_systems,
    run_scaling,
)
from cluster.simulator.study.scaling_view import HEADS, cards_plot, scaling_json, scaling_page, scaling_rows, sentences
from cluster.simulator.study.system import scaled, shared_system
from cluster.simulator.traces import Day, builtin_fits, generate, over_a_day

COST = StepCost(base_s=0.002, weights_s=0.003, token_s=1.5e-5, attention_s=1.5e-9, context_token_s=6e-8)
SPEC = ReplicaSpec(cost=COST, kv_tokens=300_000, batch_tokens=2048)
QUESTION = ScalingQuestion(
    trace=over_a_day(generate(builtin_fits()["mooncake-conversation"], requests=90, seed=1), Day(hours=0.02)),
    spec=SPEC,
    gpus=2,
    context_tokens=262_144,
    startup_s=10.0,
)
SHORT, LONG = PoolName("short"), PoolName("long")


def contender(family: Family, gpu_hours: float, good: int, name: str = "made") -> Contender:
    waits = Percentiles(p50=0.1, p95=0.2, p99=0.3)
    band = BandFigures(from_tokens=0, requests=100, done=100, refused=0, lost=0, good=good, ttft_s=waits, itl_s=waits)
    figures = Figures(
        trace="made", policy=name, offered_per_s=1.0, goodput_per_s=1.0, every=band, bands=(band,), long=band,
        prompt_tokens=1, prefilled_tokens=1, ideal_prefill_tokens=1, output_tokens=1, gpu_hours=gpu_hours,
        preemptions=0, busy_ratio=0.5,
    )  # fmt: skip
    sizes = (Size(0.0, SHORT, 2, 0), Size(0.0, LONG, 1, 1))
    return Contender(
        name=name, family=family, figures=figures, ups=1, downs=2, fewest=3, most=4, sizes=sizes, ended_s=60.0
    )


def scaling(*contenders: Contender) -> Scaling:
    return Scaling(question=QUESTION, contenders=contenders)


MADE = scaling(
    contender(Family.STATIC, 8.0, 100, "8 cards"),
    contender(Family.STATIC, 6.0, 96, "6 cards"),
    contender(Family.COUNTS, 5.0, 97, "4 requests a card"),
    contender(Family.LONGREACH, 4.0, 98, "pools"),
    contender(Family.LONGREACH, 7.0, 100, "one pool"),
    contender(Family.LONGREACH, 1.0, 50, "too few"),
)


def test_families_are_compared_by_the_fewest_hours_that_serve_enough() -> None:
    assert MADE.saved_ratio(0.95, against=Family.STATIC) == pytest.approx(1 - 4 / 6)
    assert MADE.saved_ratio(0.95, against=Family.COUNTS) == pytest.approx(0.2)
    assert MADE.saved_ratio(0.99, against=Family.STATIC) == pytest.approx(1 - 7 / 8)
    assert MADE.saved_ratio(0.99, against=Family.COUNTS) is None
    assert MADE.cheapest(Family.COUNTS, 0.99) is None


def test_sentences_say_whether_the_target_is_met() -> None:
    said = sentences(MADE)
    assert "33% fewer than shared, static, 6 cards (6.00); this meets" in said[0]
    assert "20% fewer" in said[1]
    assert "misses" in said[1]
    assert "one pool takes 7.00 GPU hours; shared, request counts serves fewer" in said[3]
    assert "no setting of Longreach" in sentences(scaling(contender(Family.STATIC, 1.0, 100)))[0]
    dearer = scaling(contender(Family.STATIC, 4.0, 99), contender(Family.LONGREACH, 5.0, 99))
    assert "25% more" in sentences(dearer)[0]


def test_rows_are_by_family_and_the_cheapest_are_marked() -> None:
    rows = scaling_rows(MADE)
    assert all(len(row) == len(HEADS) for row in rows)
    assert [row[0] for row in rows] == [
        "shared, static, 8 cards *",
        "shared, static, 6 cards *",
        "shared, request counts, 4 requests a card *",
        "Longreach, one pool *",
        "Longreach, pools *",
        "Longreach, too few",
    ]


SIZES = st.lists(
    st.builds(
        Size,
        at_s=st.integers(0, 9).map(float),
        pool=st.sampled_from([SHORT, LONG]),
        ready=st.integers(0, 5),
        starting=st.integers(0, 5),
    ),
    min_size=1,
).map(lambda sizes: sorted(sizes, key=lambda size: size.at_s))


@given(SIZES)
def test_cards_over_time_are_every_moments_last_word(sizes: list[Size]) -> None:
    found = cards_over_time(sizes)
    assert [at_s for at_s, _ in found] == sorted({size.at_s for size in sizes})
    for at_s, cards in found:
        latest = {size.pool: size.ready + size.starting for size in sizes if size.at_s <= at_s}
        assert cards == sum(latest.values())


def test_pools_begin_with_all_cards_and_each_with_one() -> None:
    systems = list(longreach_systems(replace(QUESTION, gpus=8), 6))
    assert systems[0].name == "one pool to 256k"
    assert len({system.name for system in systems}) == len(systems) >= 4
    for system in systems:
        pools = system.cluster.pools
        assert sum(pool.replicas for pool in pools) == 6
        for pool in pools:
            assert pool.target is not None
            assert 1 == pool.target.min_replicas <= pool.replicas <= pool.target.max_replicas == 8
            assert pool.startup_s == 10.0


def test_a_system_is_sized_by_its_own_scaler() -> None:
    plain = shared_system(Baseline.LEAST_REQUEST, SPEC, gpus=2, context_tokens=262_144)
    cluster = scaled(plain.cluster, most=4, level=QUESTION.level, startup_s=5.0)
    system = replace(plain, cluster=cluster, scaler=lambda: RequestCountScaler(ongoing_requests=0.5))
    result = system.run(QUESTION.trace, seed=0)
    assert max(cards for _, cards in cards_over_time(result.sizes)) == 4
    assert "0.5 a replica" in result.decisions[0].reason
    # Told anew for each run, so the second is the same.
    again = system.run(QUESTION.trace, seed=0)
    assert (again.sizes, again.decisions) == (result.sizes, result.decisions)


def test_a_whole_comparison_has_every_family_and_is_told() -> None:
    told: list[str] = []
    found = run_scaling(QUESTION, told=told.append)
    assert {one.family for one in found.contenders} == set(Family)
    assert len(told) == len(found.contenders)
    static = [one for one in found.contenders if one.family is Family.STATIC]
    assert [one.most for one in static] == sorted((one.most for one in static), reverse=True)
    assert all(one.ups == one.downs == 0 and one.fewest == one.most for one in static)
    for one in found.contenders:
        assert one.figures.every.requests == len(QUESTION.trace.requests)
        assert one.gpu_hours <= one.most * one.ended_s / 3600 + 1e-9
    numbers = json.loads(json.dumps(scaling_json(found), allow_nan=False))
    assert len(numbers["systems"]) == len(found.contenders)
    page = scaling_page(found)
    assert page.count("<svg") == 4
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_plot_of_cards_has_each_pool_of_longreachs() -> None:
    drawn = cards_plot(MADE, 0.95)
    assert "of them short" in drawn
    assert "Longreach: pools" in drawn
    assert "6 cards" in drawn
