"""Parameters from a model's sizes: against what publishers count, and what is on disk."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.models.card import ModelCard, Quantization
from cluster.models.catalog import CATALOG, find
from cluster.models.shape import shape_from_config
from cluster.planner.weights import estimated_weights_bytes

QWEN3_4B: dict[str, Any] = {
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
}
QWEN3_30B: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "vocab_size": 151_936,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("card", CATALOG, ids=lambda card: card.id)
def test_the_catalogs_weights_are_what_its_shapes_tell(card: ModelCard) -> None:
    """Some repositories store a tied head a second time: that much more is allowed."""
    estimated = estimated_weights_bytes(card)
    assert card.shape is not None
    assert estimated is not None
    twice = estimated + card.shape.embedding_parameters * 2
    off = min(abs(card.weights_bytes / one - 1) for one in (estimated, twice))
    assert off < 0.02
    assert card.kv_bytes_per_token % (2 * card.shape.attention_layers * card.shape.head_dim) == 0


@pytest.mark.parametrize(
    ("config", "card_id", "parameters"),
    # As the publishers count them: 4.02 billion; 30.5 billion, of which 3.3 (with the head) are used by a token.
    [(QWEN3_4B, "qwen3-4b-instruct-2507", 4.022e9), (QWEN3_30B, "qwen3-30b-a3b-instruct-2507", 30.53e9)],
)
def test_a_config_tells_the_same_as_the_catalog(config: dict[str, Any], card_id: str, parameters: float) -> None:
    shape = shape_from_config(config)
    card = find(card_id)
    assert shape is not None
    assert card is not None
    assert shape == card.shape
    assert shape.parameters == pytest.approx(parameters, rel=0.001)


def test_a_mixture_uses_a_tenth() -> None:
    shape = shape_from_config(QWEN3_30B)
    assert shape is not None
    assert shape.is_mixture
    assert shape.token_parameters + shape.vocabulary * shape.hidden == pytest.approx(3.04e9, rel=0.01)


@pytest.mark.parametrize(
    "more",
    [
        {"kv_lora_rank": 512},
        {"first_k_dense_replace": 3},
        {"layer_types": ["linear_attention", "full_attention"]},
        {"hidden_size": None},
        {"intermediate_size": "many"},
    ],
)
def test_what_is_not_understood_is_not_guessed(more: dict[str, Any]) -> None:
    assert shape_from_config({**QWEN3_4B, **more}) is None
    assert shape_from_config({name: size for name, size in QWEN3_4B.items() if name != "vocab_size"}) is None


def test_quantized_layers_leave_the_embedding() -> None:
    card = find("qwen2.5-7b-instruct-awq")
    assert card is not None
    assert card.quantization is Quantization.AWQ
    # By hand: 6,525,288,448 x 0.51953125 + 1,089,994,752 x 2.
    assert estimated_weights_bytes(card) == 5_570_080_768
