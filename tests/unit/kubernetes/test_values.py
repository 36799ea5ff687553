"""The values written from an inventory and a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.config import parse_config
from cluster.core.errors import SetupError
from cluster.kubernetes.inventory import Inventory
from cluster.kubernetes.models import card_of
from cluster.kubernetes.nodes import inventory_of
from cluster.kubernetes.usage import used_by_node
from cluster.kubernetes.values import ValuesPlan, Wish, plan_values, values_text
from tests.unit.kubernetes import objects as made

MODEL = "Qwen/Qwen3-4B-Instruct-2507"
Ran = Any
T4 = {
    "nvidia.com/gpu.product": "Tesla-T4",
    "nvidia.com/gpu.memory": "15360",
    "nvidia.com/gpu.compute.major": "7",
    "nvidia.com/gpu.compute.minor": "5",
}


def wish(model: str = MODEL, **more: Any) -> Wish:
    return Wish(model=model, card=card_of(model), **more)


def inventory(*nodes: dict[str, Any], pods: tuple[dict[str, Any], ...] = ()) -> Inventory:
    return inventory_of(nodes, used_by_node(pods))


def l4_and_h100() -> Inventory:
    return inventory(
        made.node("a", made.L4, gpus=4, taints=[made.GPU_TAINT]),
        made.node("b", made.L4, gpus=4, taints=[made.GPU_TAINT, {"key": "spot", "effect": "NoExecute"}]),
        made.node("c", made.H100, gpus=8, cpu="96", memory="1Ti"),
    )


def pools(plan: ValuesPlan) -> dict[str, dict[str, Any]]:
    """The pools, once the configuration's own schema has taken them."""
    parse_config(json.dumps(plan.values["config"]))
    return {pool["name"]: pool for pool in plan.values["config"]["pools"]}


def cards(plan: ValuesPlan) -> int:
    return sum(pool.replicas * pool.tensor_parallel for pool in plan.sizing.pools)


def test_a_mixed_cluster_serves_short_on_cheap_cards_and_long_on_large_ones() -> None:
    plan = plan_values(l4_and_h100(), wish())
    found = pools(plan)
    assert (found["short"]["worker_group"], found["long"]["worker_group"]) == ("l4", "h100-80gb-hbm3")
    assert found["long"]["context_tokens"] == 262_144
    assert found["short"]["context_tokens"] % 1024 == 0
    assert 50_000 <= found["short"]["context_tokens"] <= 70_000, "what 24 GB hold, whatever the model's card says"
    assert found["short"]["replicas"] == {"min": 1, "max": 8}
    running = {name: pool["engine"]["max_running"] for name, pool in found.items()}
    assert running == {"short": 5, "long": 6}, "as many as 24 and 80 GB hold, not the default of 32"
    groups = plan.values["workerGroups"]
    assert groups["l4"]["gpu"] == {"count": 1, "resource": "nvidia.com/gpu", "products": ["NVIDIA-L4"]}
    assert groups["l4"]["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Equal", "value": "present", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists", "effect": "NoExecute"},
    ]
    assert "tolerations" not in groups["h100-80gb-hbm3"]


def test_cheap_cards_alone_go_together_in_a_node() -> None:
    plan = plan_values(inventory(made.node("a", made.L4, gpus=4), made.node("b", made.L4, gpus=4)), wish())
    long = pools(plan)["long"]
    assert (long["tensor_parallel"], long["context_tokens"], long["worker_group"]) == (4, 262_144, "l4-x4")
    group = plan.values["workerGroups"]["l4-x4"]
    assert group["gpu"]["count"] == 4
    assert group["shmSize"] == "8Gi"
    assert set(plan.values["workerGroups"]) == {"l4", "l4-x4"}


def test_the_model_keeps_the_name_it_was_asked_for_by() -> None:
    plan = plan_values(l4_and_h100(), wish())
    assert plan.values["config"]["models"] == [{"id": "qwen3-4b-instruct-2507", "aliases": [MODEL]}]
    by_id = plan_values(l4_and_h100(), wish("qwen3-4b-instruct-2507"))
    assert by_id.values["config"]["models"] == [{"id": "qwen3-4b-instruct-2507"}]


def test_old_cards_get_a_type_they_have() -> None:
    plan = plan_values(inventory(made.node("a", T4, gpus=1)), wish())
    (pool,) = pools(plan).values()
    assert pool["engine"]["dtype"] == "float16"
    assert any("not 262,144" in note for note in plan.notes), "that the whole context does not fit is said"


def test_cards_that_do_not_compute_in_fp8_are_named() -> None:
    def is_said(labels: dict[str, str], model: str) -> bool:
        plan = plan_values(inventory(made.node("a", labels, gpus=1)), wish(model))
        return any("no FP8 arithmetic" in note for note in plan.notes)

    fp8 = "qwen3-4b-instruct-2507-fp8"
    assert (is_said(T4, fp8), is_said(made.L4, fp8), is_said(T4, MODEL)) == (True, False, False)


def test_a_context_over_the_models_own_is_cut_with_a_note() -> None:
    def is_said(context_tokens: int) -> bool:
        plan = plan_values(l4_and_h100(), wish(context_tokens=context_tokens))
        return any("itself ends at 262,144" in note for note in plan.notes)

    assert (is_said(500_000), is_said(262_144), is_said(8192)) == (True, False, False)


@pytest.mark.parametrize(
    ("product", "resource"),
    [
        ("NVIDIA-A100-SXM4-40GB", "nvidia.com/mig-2g.20gb"),
        ("NVIDIA-A100-SXM4-40GB-MIG-2g.20gb", "nvidia.com/gpu"),
    ],
)
def test_slices_of_a_card_serve_alone(product: str, resource: str) -> None:
    """Mixed strategy, where the resource names the slice, and single strategy, where the product does."""
    memory = "nvidia.com/gpu.memory" if resource == "nvidia.com/gpu" else f"{resource}.memory"
    labels = {"nvidia.com/gpu.product": product, memory: "19968"}
    plan = plan_values(inventory(made.node("a", labels, gpus=4, resource=resource)), wish())
    (pool,) = pools(plan).values()
    assert ("tensor_parallel" in pool, pool["replicas"]["max"]) == (False, 4)
    assert any("one MIG slice" in note for note in plan.notes)


def test_without_feature_discovery_the_clouds_label_selects_nodes() -> None:
    plan = plan_values(inventory(made.node("a", {"cloud.google.com/gke-accelerator": "nvidia-l4"}, gpus=1)), wish())
    (group,) = plan.values["workerGroups"].values()
    assert group["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-l4"}
    assert "products" not in group["gpu"]


def test_a_card_without_cpu_or_memory_beside_it_is_not_counted() -> None:
    narrow = made.node("a", made.L4, gpus=8, cpu="7", memory="192Gi")
    assert cards(plan_values(inventory(narrow), wish())) == 2
    small = made.node("a", made.L4, gpus=8, cpu="96", memory="30Gi")
    assert cards(plan_values(inventory(small), wish())) == 2


def test_cards_in_use_are_left_out_unless_asked_for() -> None:
    node = made.node("a", made.L4, gpus=2)
    busy = inventory(node, pods=(made.pod("x", node_name="a", gpus=2),))
    with pytest.raises(SetupError, match="--all-cards"):
        plan_values(busy, wish())
    assert plan_values(busy, wish(all_cards=True)).sizing.pools


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({}, "memory is not known"),
        ({**made.L4, "nvidia.com/gpu.replicas": "4"}, "time-sliced"),
        ({**made.L4, "nvidia.com/gpu.compute.major": "7", "nvidia.com/gpu.compute.minor": "0"}, "below 7.5"),
        ({"nvidia.com/gpu.memory": "23034"}, "no label of its nodes names the product"),
        ({**made.L4, "nvidia.com/gpu.memory": "8192"}, "7.5 GiB of weights"),
    ],
)
def test_what_cannot_be_planned_with_is_refused_with_the_reason(labels: dict[str, str], words: str) -> None:
    with pytest.raises(SetupError, match="fits on no card here") as caught:
        plan_values(inventory(made.node("a", labels, gpus=1)), wish())
    assert words in caught.value.problem


def test_no_gpus_at_all() -> None:
    with pytest.raises(SetupError, match=r"no node offers nvidia\.com/gpu"):
        plan_values(inventory(made.node("a")), wish())


def test_a_model_outside_the_catalog_is_sized_from_its_folder(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="longreach models pull acme/llm"):
        card_of("acme/llm")
    config = {
        "max_position_embeddings": 131_072,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": 4096,
        "torch_dtype": "bfloat16",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"x" * 1000)
    card = card_of(str(tmp_path))
    assert (card.kv_heads, card.kv_bytes_per_token) == (8, 131_072)
    model = plan_values(l4_and_h100(), Wish(model=str(tmp_path), card=card)).values["config"]["models"][0]
    assert model == {"id": card.id, "source": str(tmp_path)}


def test_the_file_says_what_it_is_made_of() -> None:
    plan = plan_values(l4_and_h100(), wish())
    text = values_text(plan, wish())
    assert yaml.safe_load(text) == plan.values
    assert "147,456 bytes of KV cache a token" in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_the_command_writes_a_file_from_a_cluster_or_from_an_inventory(k8s: Callable[..., Ran], tmp_path: Path) -> None:
    live, offline, stock = tmp_path / "live.yaml", tmp_path / "offline.yaml", tmp_path / "inventory.json"
    stock.write_text(k8s("inventory", "--json").out)
    assert k8s("values", "--model", MODEL, "--output", str(live)).exit_status == 0
    assert k8s("values", "-m", MODEL, "--inventory", str(stock), "-o", str(offline)).exit_status == 0
    assert live.read_text() == offline.read_text() == k8s("values", "-m", MODEL).out
    found = k8s("values", "-m", MODEL, "--json").json
    assert found["values"] == yaml.safe_load(live.read_text())
    assert k8s("values", "-m", "demo", "--context-tokens", "8192").exit_status == 0


def test_the_command_refuses_in_words(k8s: Callable[..., Ran], tmp_path: Path) -> None:
    large = k8s("values", "-m", "qwen3-30b-a3b-instruct-2507")
    assert (large.exit_status, "56.9 GiB of weights" in large.err) == (1, True), "two free L4 do not hold it"
    four = k8s("values", "-m", "qwen3-30b-a3b-instruct-2507", "--all-cards")
    assert (four.exit_status, "tensor_parallel: 4" in four.out) == (0, True)
    missing = k8s("values", "-m", MODEL, "--inventory", str(tmp_path / "none"))
    assert (missing.exit_status, "cannot be read" in missing.err) == (1, True)
    unwritable = k8s("values", "-m", MODEL, "-o", str(tmp_path / "no" / "folder.yaml"))
    assert (unwritable.exit_status, "cannot be written" in unwritable.err) == (1, True)
