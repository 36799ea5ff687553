from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import ModelStoreError
from cluster.models.card import Dtype, Quantization, SamplingDefaults
from cluster.models.catalog import find
from cluster.models.folder import card_from_folder

QWEN3_4B = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 2560,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 262144,
    "torch_dtype": "bfloat16",
}


def make(folder: Path, config: dict[str, Any], **files: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"x" * 1000)
    for name, document in files.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    return folder


def test_reads_what_serving_needs(tmp_path: Path) -> None:
    generation = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "do_sample": True}
    card = card_from_folder(make(tmp_path, QWEN3_4B, generation_config=generation))
    assert card.context_tokens == 262_144
    assert card.kv_bytes_per_token == 147_456
    assert card.weights_bytes == 1000
    assert card.dtype is Dtype.BFLOAT16
    assert card.quantization is Quantization.NONE
    assert card.sampling == SamplingDefaults(temperature=0.7, top_p=0.8, top_k=20)
    assert card.tool_parser is None


def test_agrees_with_the_catalog_about_tiny(tiny_folder: Path) -> None:
    entry = find("tiny")
    assert entry is not None
    card = card_from_folder(tiny_folder)
    assert (card.context_tokens, card.kv_bytes_per_token, card.weights_bytes, card.dtype, card.tool_parser) == (
        entry.context_tokens,
        entry.kv_bytes_per_token,
        entry.weights_bytes,
        entry.dtype,
        entry.tool_parser,
    )


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("awq", Quantization.AWQ),
        ("gptq", Quantization.GPTQ),
        ("fp8", Quantization.FP8),
        ("compressed-tensors", Quantization.OTHER),
    ],
)
def test_quantization(tmp_path: Path, method: str, expected: Quantization) -> None:
    config = {**QWEN3_4B, "quantization_config": {"quant_method": method}}
    assert card_from_folder(make(tmp_path, config)).quantization is expected


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}, 131_072),
        ({"type": "linear", "factor": 2.0}, 81_920),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 40_960),
        (None, 40_960),
    ],
)
def test_context_with_rope_scaling(tmp_path: Path, scaling: dict[str, Any] | None, expected: int) -> None:
    config = {**QWEN3_4B, "max_position_embeddings": 40_960, "rope_scaling": scaling}
    assert card_from_folder(make(tmp_path, config)).context_tokens == expected


def test_kv_cache_of_other_attention(tmp_path: Path) -> None:
    latent = {**QWEN3_4B, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    assert card_from_folder(make(tmp_path, latent)).kv_bytes_per_token == 36 * 576 * 2
    hybrid = {**QWEN3_4B, "layer_types": ["linear_attention"] * 27 + ["full_attention"] * 9}
    assert card_from_folder(make(tmp_path, hybrid)).kv_bytes_per_token == 147_456 // 4
    without_head_dim = {key: value for key, value in QWEN3_4B.items() if key != "head_dim"}
    assert card_from_folder(make(tmp_path, without_head_dim)).kv_bytes_per_token == 2 * 36 * 8 * 80 * 2


def test_multimodal_config_has_its_text_part_below(tmp_path: Path) -> None:
    config = {"model_type": "qwen3_vl", "torch_dtype": "float16", "text_config": {**QWEN3_4B, "torch_dtype": None}}
    card = card_from_folder(make(tmp_path, config))
    assert card.kv_bytes_per_token == 147_456
    assert card.dtype is Dtype.FLOAT16


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "not a JSON object"),
        ("{}", "max_position_embeddings"),
        (json.dumps({**QWEN3_4B, "torch_dtype": "int3"}), "int3"),
    ],
)
def test_a_bad_config_is_named(tmp_path: Path, config: str, message: str) -> None:
    folder = make(tmp_path, {})
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelStoreError, match=message) as caught:
        card_from_folder(folder)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(("name", "message"), [("model.gguf", "GGUF"), ("pytorch_model.bin", "safetensors")])
def test_weights_vllm_or_we_would_not_load(tmp_path: Path, name: str, message: str) -> None:
    folder = make(tmp_path, QWEN3_4B)
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(ModelStoreError, match=message):
        card_from_folder(folder)
