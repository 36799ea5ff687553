"""Plans: what is recommended, what is refused, and files that the configuration and the chart take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.config import parse_config
from cluster.core.autoscaling import ServiceLevel
from cluster.core.capacity.level import MET_RATIO
from cluster.core.capacity.step import StepCost
from cluster.core.errors import ModelStoreError, SetupError
from cluster.models.catalog import find
from cluster.planner.emit import as_text, config_of, emitted_pools, values_of_plan
from cluster.planner.layout import Node
from cluster.planner.models import planned_card
from cluster.planner.plan import Plan, Question, make_plan, parse_gpus
from cluster.planner.report import plan_report
from cluster.planner.roofline import step_cost
from cluster.planner.shapes import MeasuredCost
from cluster.planner.workload import offered_load

MODEL = "qwen3-4b-instruct-2507"
MIXED = "5,4000/60000,300/900"


def plan(*gpus: str, workload: str | None = None, model: str = MODEL, **more: Any) -> Plan:
    kinds, nodes = parse_gpus(gpus)
    card = find(model)
    assert card is not None
    load = None if workload is None else offered_load(workload)
    return make_plan(Question(model=model, card=card, gpus=kinds, nodes=nodes, load=load, **more))


def test_24_gb_do_not_hold_the_longest_context() -> None:
    limits = {shape.ranks: shape.context_tokens for shape in plan("L4").shapes}
    assert limits == {1: 62_464, 2: 156_672, 4: 262_144, 8: 262_144}
    assert any("not 262,144" in note for note in plan("L4:1").notes)


def test_a_mixed_load_gets_a_boundary_and_meets_the_level() -> None:
    found = plan("H100", workload=MIXED)
    assert found.layouts is not None
    best = found.layouts.found[0]
    assert best.boundaries
    for pool in best.pools:
        assert pool.found is not None
        assert pool.found.met_ratio >= MET_RATIO
        assert pool.found.outcome.itl_s <= ServiceLevel().itl_s
        assert pool.shape.context_tokens >= pool.context_tokens
    one_pool = next(layout for layout in found.layouts.found if not layout.boundaries)
    assert best.weight < one_pool.weight, "why there is a boundary"
    assert best.short_wait_s < one_pool.short_wait_s


def test_a_load_that_one_replica_serves_is_not_divided() -> None:
    found = plan("H100", workload="0.01,2000,200")
    assert found.layouts is not None
    assert found.layouts.found[0].boundaries == ()
    assert found.layouts.found[0].pools[0].replicas == 1


def test_prices_decide() -> None:
    def kinds(**prices: float) -> set[str]:
        found = plan("L4", "H100", workload="20,1500,200", context_tokens=16_384, prices=prices)
        assert found.layouts is not None
        return {pool.shape.gpu.name for pool in found.layouts.found[0].pools}

    assert kinds(L4=0.5, H100=50.0) == {"L4"}
    assert kinds(L4=5.0, H100=1.0) == {"H100"}


def test_cost_is_price_over_tokens() -> None:
    found = plan("H100", workload="1,2000,200", prices={"H100": 3.6})
    assert found.cost is not None
    assert found.layouts is not None
    cards = sum(pool.cards for pool in found.layouts.found[0].pools)
    assert found.cost.per_hour == pytest.approx(3.6 * cards)
    assert found.cost.per_million_tokens == pytest.approx(3.6 * cards / (2_200 * 3_600) * 1e6)
    assert found.cost.per_million_output_tokens == pytest.approx(3.6 * cards / (200 * 3_600) * 1e6)


def test_without_a_price_there_is_no_cost_and_half_a_price_list_is_refused() -> None:
    assert plan("H100", workload="1,2000,200").cost is None
    with pytest.raises(SetupError, match="H100 has no price"):
        plan("L4", "H100", workload="1,2000,200", prices={"L4": 1.0})


def test_cards_that_there_are_not_are_counted() -> None:
    found = plan("H100:1", workload=MIXED)
    assert found.layouts is not None
    assert found.layouts.found[0].missing == {"H100": 6}
    assert plan("H100:8", workload=MIXED).layouts.found[0].missing == {}  # type: ignore[union-attr]


def test_what_serves_nothing_says_why() -> None:
    found = plan("T4:1", workload="1,2000,200", level=ServiceLevel(itl_s=0.01))
    assert found.layouts is not None
    assert found.layouts.found == ()
    assert any("a step that decodes takes" in why for why in found.layouts.refused)
    with pytest.raises(SetupError, match="a step that decodes"):
        emitted_pools(found)


def test_a_model_that_fits_nowhere() -> None:
    one = plan("RTX3060", model="qwen3-30b-a3b-instruct-2507", workload="1,2000,200")
    assert one.context_tokens == 0
    assert one.layouts is None
    assert "fits on none" in one.notes[0]


@pytest.mark.parametrize(
    ("texts", "nodes"),
    [
        (["L4"], None),
        (["L4:8"], (Node(gpu="L4", cards=8),)),
        (["l4:2x3"], (Node(gpu="L4", cards=2),) * 3),
        (["L4:8", "H100:4"], (Node(gpu="L4", cards=8), Node(gpu="H100", cards=4))),
    ],
)
def test_gpus_are_read(texts: list[str], nodes: tuple[Node, ...] | None) -> None:
    assert parse_gpus(texts)[1] == nodes


@pytest.mark.parametrize("texts", [[], ["L4:0"], ["L4:x"], ["L4:2xy"], ["L4:-1"], ["L4", "H100:4"], ["Voodoo2"]])
def test_gpus_that_mean_nothing_are_refused(texts: list[str]) -> None:
    with pytest.raises(SetupError):
        parse_gpus(texts)


@pytest.mark.parametrize("gpus", [("L4", "H100"), ("H100:8",), ("L4:8x4", "H100:8")])
def test_files_are_taken_by_their_schema(gpus: tuple[str, ...]) -> None:
    found = plan(*gpus, workload=MIXED)
    parse_config(json.dumps(config_of(found)))
    values = values_of_plan(found)
    config = parse_config(json.dumps(values["config"]))
    assert {pool.worker_group for pool in config.pools} == set(values["workerGroups"])
    assert [pool.replicas.min for pool in config.pools] == [pool.replicas[0] for pool in emitted_pools(found)]
    assert "# Pool" in as_text(found, values)


def test_cards_without_a_workload_get_the_pools_that_k8s_values_gives() -> None:
    found = plan("L4:4", "L4:4", "H100:8")
    pools = {pool.name: pool for pool in emitted_pools(found)}
    assert (pools["short"].gpu, pools["long"].gpu, pools["long"].context_tokens) == ("L4", "H100", 262_144)
    parse_config(json.dumps(values_of_plan(found)["config"]))


def test_processors_get_a_kv_cache_and_no_worker_group() -> None:
    found = plan("cpu", model="demo", workload="0.02,500,50", level=ServiceLevel(ttft_s=20, itl_s=1))
    (pool,) = parse_config(json.dumps(config_of(found))).pools
    assert pool.accelerator == "cpu"
    assert pool.engine.kv_cache_gib is not None
    with pytest.raises(SetupError, match="GPUs only"):
        values_of_plan(found)


def test_turing_gets_float16() -> None:
    found = plan("T4", workload="0.1,500,50")
    (pool,) = parse_config(json.dumps(config_of(found))).pools
    assert pool.engine.dtype == "float16"
    assert any("no bf16" in note for note in found.notes)


def test_a_measurement_replaces_its_shape_and_corrects_the_others() -> None:
    card = find(MODEL)
    assert card is not None
    kinds, _ = parse_gpus(["L4"])
    planned = step_cost(card, kinds[0], 1)
    twice = StepCost(
        base_s=planned.base_s * 2,
        weights_s=planned.weights_s * 2,
        token_s=planned.token_s * 2,
        attention_s=planned.attention_s * 2,
        context_token_s=0.0,
    )
    measured = MeasuredCost(gpu="L4", ranks=1, cost=twice)
    one, two = plan("L4:2", measured=measured).shapes
    assert (one.cost, one.is_measured, two.is_measured) == (twice, True, False)
    assert two.cost.weights_s == pytest.approx(step_cost(card, kinds[0], 2).weights_s * 2)
    assert two.cost.context_token_s == 0.0
    assert not any("data sheets" in note for note in plan("L4:1", measured=measured).notes)
    (other,) = plan("T4:1", measured=measured).shapes
    assert other.cost == step_cost(card, other.gpu, 1)


def test_the_report_is_json_with_every_number() -> None:
    report = json.loads(json.dumps(plan_report(plan("L4", "H100", workload=MIXED)), allow_nan=False))
    assert report["model"]["context_kv_bytes"] == 36 * 2**30
    assert report["layouts"][0]["pools"][0]["replicas"] >= 1
    assert report["speed_error_ratio"] == 0.3
    json.dumps(plan_report(plan("L4")), allow_nan=False)


def test_requests_that_no_pool_takes_are_told() -> None:
    found = plan("L4:1", workload="0.01,50000/200000,100")
    assert any("refused" in note for note in found.notes)


def test_bursts_are_told() -> None:
    card = find(MODEL)
    assert card is not None
    kinds, _ = parse_gpus(["H100"])
    load = offered_load("1,2000,200")
    for cv2, told in ((1.0, False), (20.0, True)):
        asked = Question(model=MODEL, card=card, gpus=kinds, nodes=None, load=replace(load, arrival_cv2=cv2))
        assert any("simulate the trace" in note for note in make_plan(asked).notes) == told


def test_a_folder_with_its_config_alone_can_be_planned(tmp_path: Path) -> None:
    config = {
        "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936, "tie_word_embeddings": True,
        "max_position_embeddings": 262_144, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    card = planned_card(str(tmp_path))
    assert card.weights_bytes == 8_044_544_000
    assert replace(card, weights_bytes=0).kv_bytes_per_token == 147_456
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": None}))
    with pytest.raises(SetupError, match="does not tell"):
        planned_card(str(tmp_path))


def test_a_hub_that_is_away_leaves_a_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("LONGREACH_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelStoreError, match=r"config\.json into a folder"):
        planned_card("someone/unknown")
