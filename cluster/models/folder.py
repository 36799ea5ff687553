"""Reads a model folder: its card, from config.json and the files beside it.

What lives here: the meaning of config.json's fields. What must not: downloading, and running anything in the folder.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cluster.models.card import (
    Dtype,
    FolderSource,
    ModelCard,
    Quantization,
    SamplingDefaults,
    Source,
    kv_bytes_per_token,
)
from cluster.models.faults import store_error
from cluster.models.shape import shape_from_config

if TYPE_CHECKING:
    from pathlib import Path

MAX_JSON_BYTES = 64 << 20
"""A tokenizer.json has up to about 30 MB; the files read here are smaller."""
QUANTIZATIONS = {
    "awq": Quantization.AWQ,
    "gptq": Quantization.GPTQ,
    "fp8": Quantization.FP8,
    "fbgemm_fp8": Quantization.FP8,
}
SCALED_BY_FACTOR = frozenset({"linear", "dynamic", "yarn"})
"""Kinds of rope scaling whose factor multiplies the context, as vLLM takes it; the others have it counted in."""
HERMES_MARKS = ("<tool_call>", '"name"')
"""A chat template that has both teaches calls as JSON in <tool_call> tags: vLLM's `hermes` parser reads those."""


def card_from_folder(
    folder: Path,
    *,
    model_id: str | None = None,
    source: Source | None = None,
    revision: str | None = None,
    weights_bytes: int | None = None,
) -> ModelCard:
    """The card of the model in `folder`; `weights_bytes` is given where the weights are elsewhere.

    Raises:
        ModelStoreError: there is no model that vLLM can load in `folder`.
    """
    config = _read(folder, "config.json")
    text = config.get("text_config") or config  # multimodal models keep the language model's part one level down
    if weights_bytes is None:
        weights_bytes = _weights_bytes(folder)
    try:
        dtype = _dtype(config, text)
        return ModelCard(
            id=model_id or folder.name,
            source=source or FolderSource(path=str(folder)),
            revision=revision,
            context_tokens=_context_tokens(text),
            kv_bytes_per_token=_kv_bytes(text, dtype),
            kv_heads=_kv_heads(text),
            weights_bytes=weights_bytes,
            dtype=dtype,
            quantization=_quantization(config),
            tool_parser=_tool_parser(folder),
            sampling=_sampling(folder),
            shape=shape_from_config(text),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise store_error(
            f"{folder / 'config.json'} lacks or garbles a field: {error!r}", "use a folder as a model hub publishes it"
        ) from error


def _read(folder: Path, name: str, *, required: bool = True) -> dict[str, Any]:
    path = folder / name
    if not required and not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise store_error(
            f"{path} cannot be read: {error}", "name a folder with config.json and *.safetensors in it"
        ) from error
    if not isinstance(document, dict):
        raise store_error(f"{path} is not a JSON object", "use a folder as a model hub publishes it")
    return document


def _weights_bytes(folder: Path) -> int:
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
    if sizes:
        return sum(sizes)
    if any(folder.glob("*.gguf")):
        raise store_error(f"{folder} has GGUF weights, which vLLM 0.32 does not load", "use safetensors weights")
    raise store_error(f"{folder} has no *.safetensors weights", "pickled weights are never loaded; convert them first")


def _context_tokens(text: dict[str, Any]) -> int:
    positions = int(text["max_position_embeddings"])
    scaling = text.get("rope_scaling") or text.get("rope_parameters") or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in SCALED_BY_FACTOR:
        return positions
    # YaRN's factor counts from the length the model was trained at, the others' from the length in the file.
    base = int(scaling.get("original_max_position_embeddings") or positions) if kind == "yarn" else positions
    return max(positions, int(base * float(scaling.get("factor", 1.0))))


def _kv_bytes(text: dict[str, Any], dtype: Dtype) -> int:
    layers = int(text["num_hidden_layers"])
    kinds = text.get("layer_types")
    if kinds:  # linear-attention layers keep one state per sequence and nothing per token
        layers = sum("linear" not in kind and "mamba" not in kind for kind in kinds)
    if text.get("kv_lora_rank"):  # multi-head latent attention: one compressed vector instead of keys and values
        return layers * (int(text["kv_lora_rank"]) + int(text["qk_rope_head_dim"])) * dtype.size_bytes
    heads = int(text["num_attention_heads"])
    return kv_bytes_per_token(
        layers=layers,
        kv_heads=_kv_heads(text),
        head_dim=int(text.get("head_dim") or int(text["hidden_size"]) // heads),
        dtype=dtype,
    )


def _kv_heads(text: dict[str, Any]) -> int:
    if text.get("kv_lora_rank"):  # every rank holds the compressed vector whole
        return 1
    return int(text.get("num_key_value_heads") or text["num_attention_heads"])


def _dtype(config: dict[str, Any], text: dict[str, Any]) -> Dtype:
    name = next((part[key] for part in (text, config) for key in ("dtype", "torch_dtype") if part.get(key)), "bfloat16")
    return Dtype(str(name).removeprefix("torch."))


def _quantization(config: dict[str, Any]) -> Quantization:
    method = (config.get("quantization_config") or {}).get("quant_method")
    return QUANTIZATIONS.get(str(method), Quantization.OTHER) if method else Quantization.NONE


def _tool_parser(folder: Path) -> str | None:
    path = folder / "chat_template.jinja"
    if path.exists():
        template = path.read_text(encoding="utf-8", errors="replace")
    else:
        template = str(_read(folder, "tokenizer_config.json", required=False).get("chat_template") or "")
    # Escaped inside the template or not, the JSON key is the mark.
    plain = template.replace("\\", "")
    return "hermes" if all(mark in plain for mark in HERMES_MARKS) else None


def _sampling(folder: Path) -> SamplingDefaults:
    config = _read(folder, "generation_config.json", required=False)
    return SamplingDefaults(
        temperature=config.get("temperature"),
        top_p=config.get("top_p"),
        top_k=config.get("top_k"),
        min_p=config.get("min_p"),
        repetition_penalty=config.get("repetition_penalty"),
    )
