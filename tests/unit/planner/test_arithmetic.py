"""The numbers of docs/capacity.md that were worked out by hand, and that the page still says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cluster.core.capacity import kv_tokens
from cluster.core.capacity.replica import kv_room_bytes
from cluster.gpus import KINDS, find_gpu
from cluster.models.card import ModelCard
from cluster.models.catalog import find
from cluster.models.need import activation_bytes, model_need
from cluster.planner.plan import Question, make_plan, parse_gpus
from cluster.planner.roofline import step_cost, work_of
from cluster.planner.shapes import shapes_of
from cluster.planner.weights import weight_formats
from cluster.planner.workload import offered_load

PAGE = (Path(__file__).parents[3] / "docs" / "capacity.md").read_text(encoding="utf-8")
GIB = 2**30
MODELS = ("qwen3-4b-instruct-2507", "demo", "qwen2.5-7b-instruct-awq")


def card(name: str) -> ModelCard:
    found = find(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "layer_parameters", "embedding_parameters", "kv_bytes", "pair_flops", "activations"),
    [
        # 36 x 2560 x (128 x (2 x 32 + 2 x 8) + 3 x 9728); 151936 x 2560; 2 x 36 x 8 x 128 x 2; 4 x 36 x 32 x 128;
        # 8192 x (1.5 x 19456 + 2 x 2560) x 2 + 128 x 151936 x 4
        ("qwen3-4b-instruct-2507", 3_633_315_840, 388_956_160, 147_456, 589_824, 639_827_968),
        # 24 x 896 x (64 x (2 x 14 + 2 x 2) + 3 x 4864); 151936 x 896; 2 x 24 x 2 x 64 x 2; 4 x 24 x 14 x 64;
        # 8192 x (1.5 x 9728 + 2 x 896) x 2 + 128 x 151936 x 4
        ("demo", 357_826_560, 136_134_656, 12_288, 86_016, 346_226_688),
        # 28 x 3584 x (128 x (2 x 28 + 2 x 4) + 3 x 18944); 2 x 152064 x 3584; 2 x 28 x 4 x 128 x 2; 4 x 28 x 28 x 128;
        # 8192 x (1.5 x 37888 + 2 x 3584) x 2 + 128 x 152064 x 4
        ("qwen2.5-7b-instruct-awq", 6_525_288_448, 1_089_994_752, 57_344, 401_408, 1_126_432_768),
    ],
)
def test_three_models_by_hand(  # noqa: PLR0917
    name: str, layer_parameters: int, embedding_parameters: int, kv_bytes: int, pair_flops: int, activations: int
) -> None:
    found = card(name)
    assert found.shape is not None
    assert found.shape.layer_parameters == layer_parameters
    assert found.shape.embedding_parameters == embedding_parameters
    assert found.kv_bytes_per_token == kv_bytes
    assert work_of(found).pair_flops == pair_flops
    assert work_of(found).token_flops == 2 * layer_parameters
    assert activation_bytes(found) == activations


@pytest.mark.parametrize(
    ("name", "sixteen", "eight", "four"),
    [
        ("qwen3-4b-instruct-2507", 8_044_544_000, 4_411_228_160, 2_665_533_440),
        ("demo", 987_922_432, 630_095_872, 458_171_392),
        ("qwen2.5-7b-instruct-awq", 15_230_566_400, 8_705_277_952, 5_570_080_768),
    ],
)
def test_weights_by_format(name: str, sixteen: int, eight: int, four: int) -> None:
    assert [one.weights_bytes for one in weight_formats(card(name))] == [sixteen, eight, four]


def test_the_longest_context_of_the_reference_model_takes_36_gib() -> None:
    reference = card("qwen3-4b-instruct-2507")
    assert reference.context_tokens * reference.kv_bytes_per_token == 36 * GIB


@pytest.mark.parametrize(
    ("name", "gpu", "room_bytes", "tokens"),
    [
        # 23,034 MiB x 0.9 less 8,045,000,000 less 2 GiB; by 147,456, in blocks of 16.
        ("qwen3-4b-instruct-2507", "L4", 11_545_125_977, 78_288),
        # 15,360 MiB x 0.9 less 988,097,824 less 2 GiB; by 12,288.
        ("demo", "T4", 11_359_933_152, 924_464),
        # 23,028 MiB x 0.9 less 5,600,000,000 less 1,126,432,768 less 1 GiB; by 57,344.
        ("qwen2.5-7b-instruct-awq", "A10G", 13_931_772_723, 242_944),
    ],
)
def test_kv_cache_by_hand(name: str, gpu: str, room_bytes: int, tokens: int) -> None:
    size = {"card_bytes": find_gpu(gpu).memory_bytes, "ranks": 1, "memory_ratio": 0.9}
    assert kv_room_bytes(model_need(card(name)), **size) == pytest.approx(room_bytes, abs=1)
    assert kv_tokens(model_need(card(name)), **size) == tokens


def test_speed_by_hand() -> None:
    """The reference model on one L4."""
    cost = step_cost(card("qwen3-4b-instruct-2507"), find_gpu("L4"), 1)
    assert cost.weights_s == pytest.approx(8.045e9 / (300e9 * 0.7))  # 38.3 ms
    assert cost.token_s == pytest.approx(2 * 3_633_315_840 / (121e12 * 0.5))  # 0.120 ms
    assert cost.attention_s == pytest.approx(589_824 / (121e12 * 0.4))  # 12.2 ns
    assert cost.context_token_s == pytest.approx(147_456 / (300e9 * 0.7))  # 0.702 us
    assert cost.base_s == pytest.approx(0.002)


def test_two_cards_sum_up_over_their_link() -> None:
    reference, l4 = card("qwen3-4b-instruct-2507"), find_gpu("L4")
    one, two = step_cost(reference, l4, 1), step_cost(reference, l4, 2)
    assert two.base_s == pytest.approx(0.002 + 72 * 40e-6)
    assert two.token_s == pytest.approx(one.token_s / 2 + 2 / 2 * 72 * 2_560 * 2 / (32e9 * 0.7))
    assert two.weights_s == pytest.approx(one.weights_s / 2)


@pytest.mark.parametrize("name", MODELS)
def test_the_page_says_what_fits_on_which_card(name: str) -> None:
    """Each row of the page's table of contexts, made anew."""
    found = card(name)
    for gpu in KINDS:
        limits = {
            shape.ranks: shape.context_tokens for shape in shapes_of(found, model_need(found), gpu, memory_ratio=0.9)
        }
        cells = [f"{limits[ranks]:,}" if limits.get(ranks) else "-" for ranks in (1, 2, 4, 8)]
        row = f"| {gpu.name} | {' | '.join(cells)} |"
        assert row in section(f"### {name}"), row


def test_the_page_has_every_kind_of_the_catalog() -> None:
    for gpu in KINDS:
        row = (
            f"| {gpu.name} | {gpu.memory_bytes / GIB:.1f} | {gpu.bandwidth_bytes_per_s / 1e9:,.0f} | "
            f"{gpu.flops_16 / 1e12:,.4g} | {f'{gpu.flops_8 / 1e12:,.4g}' if gpu.flops_8 else '-'} | "
        )
        assert row in PAGE, row


def test_the_page_has_the_worked_plan() -> None:
    reference = card("qwen3-4b-instruct-2507")
    kinds, nodes = parse_gpus(["L4", "H100"])
    load = offered_load("5,4000/60000,300/900")
    found = make_plan(Question(model=reference.id, card=reference, gpus=kinds, nodes=nodes, load=load))
    assert found.layouts is not None
    for pool in found.layouts.found[0].pools:
        assert pool.found is not None
        assert pool.load is not None
        row = (
            f"| {pool.name} | {pool.context_tokens:,} | {pool.replicas} | {pool.shape.ranks} x {pool.shape.gpu.name} | "
            f"{pool.load.requests_per_s:.3g} | {pool.found.outcome.use_ratio:.0%} | "
            f"{pool.found.outcome.itl_s * 1000:.0f} ms | {pool.found.limit} |"
        )
        assert row in section("### A worked plan"), row


def section(heading: str) -> str:
    found = re.search(rf"^{re.escape(heading)}$(?P<text>.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found["text"]
