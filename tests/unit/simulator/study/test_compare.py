"""Verdicts, choices and frontiers, on standings made up; and a whole study of a small trace."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf

import pytest

from cluster.core.autoscaling import ServiceLevel
from cluster.core.capacity.step import StepCost
from cluster.simulator.baselines import Baseline
from cluster.simulator.cluster import GatewaySpec, ReplicaSpec
from cluster.simulator.report.metrics import BandFigures, Figures, Percentiles
from cluster.simulator.study.compare import Standing, choose, frontier, verdict
from cluster.simulator.study.search import layouts, tuned
from cluster.simulator.study.stable import Stability
from cluster.simulator.study.study import Question, run_study
from cluster.simulator.study.system import System, layout_name, pooled_cluster
from cluster.simulator.study.view import rate_rows, sentence, study_json, study_page
from cluster.simulator.study.work import works
from cluster.simulator.trace import Trace
from cluster.simulator.traces import builtin_fits, generate

COST = StepCost(base_s=0.002, weights_s=0.003, token_s=1.5e-5, attention_s=1.5e-9, context_token_s=6e-8)
SPEC = ReplicaSpec(cost=COST, kv_tokens=300_000, batch_tokens=2048)
CLUSTER = pooled_cluster(SPEC, (8192, 262_144), (1, 3), gateway=GatewaySpec())


def band(p99: float, good: int = 10) -> BandFigures:
    waits = Percentiles(p50=0.1, p95=0.2, p99=p99)
    return BandFigures(from_tokens=0, requests=10, done=10, refused=0, lost=0, good=good, ttft_s=waits, itl_s=waits)


def standing(name: str, short_s: float, long_s: float, good: int = 10) -> Standing:
    figures = Figures(
        trace="made", policy=name, offered_per_s=1.0, goodput_per_s=1.0, every=band(short_s, good),
        bands=(band(short_s),),
        long=band(long_s), prompt_tokens=1, prefilled_tokens=1, ideal_prefill_tokens=1, output_tokens=1,
        gpu_hours=1.0, preemptions=0, busy_ratio=0.5,
    )  # fmt: skip
    stability = Stability(served_ratio=1.0, growth_ratio=0.0, backlog_s=0.0)
    return Standing(system=System(name=name, cluster=CLUSTER), figures=figures, stability=stability)


REFERENCE = standing("reference", 5.0, 10.0)


@pytest.mark.parametrize(
    ("short_s", "long_s", "is_met"),
    [(1.0, 12.5, True), (1.01, 12.5, False), (1.0, 12.6, False), (0.1, inf, False), (0.0, 1.0, True)],
)
def test_the_target_is_both_bounds(short_s: float, long_s: float, is_met: bool) -> None:
    assert verdict(standing("ours", short_s, long_s), REFERENCE).is_met is is_met


def test_a_trace_without_long_prompts_is_judged_by_its_longest() -> None:
    made = standing("made", 5.0, 10.0)
    middle = replace(band(3.0), from_tokens=4_096)
    none = replace(band(0.0), requests=0, done=0, good=0, from_tokens=32_768)
    shorter = replace(made, figures=replace(made.figures, bands=(band(5.0), middle), long=none))
    assert (made.long_s, shorter.long_s) == (10.0, 3.0)
    assert verdict(shorter, shorter).long_ratio == 1.0
    assert verdict(standing("late", 1.0, 6.0), shorter).long_ratio == 2.0


def test_a_reference_that_serves_nobody_is_beaten_and_the_other_way_round() -> None:
    dead, alive = standing("dead", inf, inf), standing("alive", 1.0, 1.0)
    assert verdict(alive, dead).is_met
    assert verdict(dead, alive).short_gain == 0.0
    assert verdict(dead, dead).short_gain == 1.0


def test_of_those_that_meet_the_target_the_one_with_most_goodput_is_chosen() -> None:
    made = [
        standing("best short", 0.1, 12.0, good=8),
        standing("most good", 0.9, 12.0, good=9),
        standing("c", 2.0, 9.0),
    ]
    assert choose(made, REFERENCE).name == "most good"


def test_where_none_meets_it_the_best_for_short_prompts_among_the_fair_is() -> None:
    made = [standing("unfair", 0.1, 20.0), standing("fair", 2.0, 12.0), standing("fairer", 3.0, 10.0)]
    assert choose(made, REFERENCE).name == "fair"
    assert choose(made[:1], REFERENCE).name == "unfair"
    assert choose([standing("near", 1.1, 12.6), standing("far", 4.0, 12.6)], REFERENCE).name == "near"
    assert choose([standing("dead", inf, inf), standing("slow", 50.0, 30.0)], REFERENCE).name == "slow"


def test_the_frontier_has_whoever_nobody_beats_twice() -> None:
    made = [standing("a", 0.1, 20.0), standing("b", 0.5, 12.0), standing("c", 0.6, 13.0), standing("d", 0.9, 10.0)]
    assert [one.name for one in frontier(made)] == ["a", "b", "d"]


def small_trace() -> Trace:
    return generate(builtin_fits()["mooncake-conversation"], requests=120, seed=1)


def test_layouts_divide_all_cards_and_reach_the_longest_context() -> None:
    ordered = works(small_trace(), COST, output_tokens=1024)
    found = list(layouts(ordered, SPEC, gpus=8, context_tokens=262_144, gateway=GatewaySpec()))
    names = [layout_name(cluster) for cluster in found]
    assert len(set(names)) == len(names) >= 8
    assert {len(cluster.pools) for cluster in found} == {2, 3}
    for cluster in found:
        assert sum(pool.replicas for pool in cluster.pools) == 8
        limits = [pool.context_tokens for pool in cluster.pools]
        assert limits == sorted(set(limits))
        assert limits[-1] == 262_144


def test_pools_of_shorter_requests_run_more_of_them() -> None:
    ordered = works(small_trace(), COST, output_tokens=1024)
    short, long = tuned(CLUSTER, ordered).pools
    assert 8 <= long.replica.max_running < short.replica.max_running <= 128
    assert (short.replica.long_prefill_tokens, long.replica.long_prefill_tokens) == (0, 512)


def test_a_study_names_the_best_shared_pool_and_compares_at_parts_of_its_maximum() -> None:
    question = Question(
        trace=small_trace(),
        spec=SPEC,
        gpus=2,
        context_tokens=262_144,
        loads=(0.6,),
        policies=("balanced",),
        baselines=(Baseline.LEAST_REQUEST, Baseline.EXACT_PREFIX),
    )
    told: list[str] = []
    study = run_study(question, told=told.append)
    assert set(study.maxima) == set(question.baselines)
    rate = study.rates[0]
    assert rate.factor == pytest.approx(0.6 * study.maxima[study.best_shared].factor)
    assert rate.reference in rate.shared
    assert rate.chosen in rate.pools
    assert set(rate.frontier) <= set(rate.pools)
    assert sum(row[0].endswith(" *") for row in rate_rows(rate)) == (rate.chosen in rate.frontier)
    assert rate.chosen.name in sentence(rate)
    found = json.loads(json.dumps(study_json(study), allow_nan=False))
    assert found["rates"][0]["chosen"] == rate.chosen.name
    assert len(found["rates"][0]["systems"]) == len((*rate.shared, *rate.static, *rate.pools))
    page = study_page(study)
    assert page.count("<svg") == 1
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert any("stable maximum" in one for one in told)


def test_a_load_of_nothing_is_refused() -> None:
    question = Question(
        trace=small_trace(), spec=SPEC, gpus=3, context_tokens=262_144, loads=(0.0,), level=ServiceLevel()
    )
    with pytest.raises(ValueError, match="not above 0"):
        run_study(question, told=lambda _: None)
