"""The weights of the tiny test model: normal values from a seed, the same on every machine.

What lives here: arrays. What must not: what the model is (tiny.py), which has to be readable without numpy.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from cluster.models.qwen_tokenizer import ADDED_TOKENS
from cluster.models.safetensors_writer import Tensor, write_safetensors
from cluster.models.tiny import (
    ADDED_TOKEN_HEAD_STD,
    ATTENTION_SHARPNESS,
    EMBEDDING_STD,
    HEAD_DIM,
    HEAD_STD,
    HEADS,
    HIDDEN,
    INTERMEDIATE,
    KV_HEADS,
    LAYERS,
    OUTPUT_GAIN,
    VOCABULARY,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cluster.models.progress import Progress
    from cluster.models.safetensors_writer import Float32Array


def write_weights(path: Path, seed: int, progress: Progress) -> None:
    """Make the weights and write them to `path`, in the safetensors format."""
    tensors = _tensors(seed)
    total_bytes = sum(tensor.size_bytes for tensor in tensors)
    write_safetensors(path, tensors, lambda done_bytes: progress("generating", done_bytes, total_bytes))


def _tensors(seed: int) -> list[Tensor]:
    tensors = [
        _tensor("model.embed_tokens.weight", (VOCABULARY, HIDDEN), lambda: _embedding(seed)),
        _tensor("lm_head.weight", (VOCABULARY, HIDDEN), lambda: _head(seed)),
        _ones("model.norm.weight", HIDDEN),
    ]
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for name, (rows, columns), gain in (
            ("self_attn.q_proj", (HEADS * HEAD_DIM, HIDDEN), 1.0),
            ("self_attn.k_proj", (KV_HEADS * HEAD_DIM, HIDDEN), 1.0),
            ("self_attn.v_proj", (KV_HEADS * HEAD_DIM, HIDDEN), 1.0),
            ("self_attn.o_proj", (HIDDEN, HEADS * HEAD_DIM), OUTPUT_GAIN),
            ("mlp.gate_proj", (INTERMEDIATE, HIDDEN), 1.0),
            ("mlp.up_proj", (INTERMEDIATE, HIDDEN), 1.0),
            ("mlp.down_proj", (HIDDEN, INTERMEDIATE), OUTPUT_GAIN),
        ):
            tensors.append(_matrix(f"{prefix}{name}.weight", seed, rows=rows, columns=columns, gain=gain))
        tensors += [
            _constant(f"{prefix}self_attn.q_norm.weight", HEAD_DIM, ATTENTION_SHARPNESS),
            _ones(f"{prefix}self_attn.k_norm.weight", HEAD_DIM),
            _ones(f"{prefix}input_layernorm.weight", HIDDEN),
            _ones(f"{prefix}post_attention_layernorm.weight", HIDDEN),
        ]
    return tensors


def _matrix(name: str, seed: int, *, rows: int, columns: int, gain: float) -> Tensor:
    return _tensor(
        name, (rows, columns), lambda: _normal(name, seed, (rows, columns)) * np.float32(gain * columns**-0.5)
    )


def _ones(name: str, size: int) -> Tensor:
    return _constant(name, size, 1.0)


def _constant(name: str, size: int, value: float) -> Tensor:
    return _tensor(name, (size,), lambda: np.full(size, value, dtype=np.float32))


def _tensor(name: str, shape: tuple[int, ...], values: Callable[[], Float32Array]) -> Tensor:
    def pieces() -> Iterator[Float32Array]:
        yield values()

    return Tensor(name=name, shape=shape, pieces=pieces)


def _embedding(seed: int) -> Float32Array:
    return _normal("model.embed_tokens.weight", seed, (VOCABULARY, HIDDEN)) * np.float32(EMBEDDING_STD)


def _head(seed: int) -> Float32Array:
    values = _normal("lm_head.weight", seed, (VOCABULARY, HIDDEN)) * np.float32(HEAD_STD)
    values[-len(ADDED_TOKENS) :] *= np.float32(ADDED_TOKEN_HEAD_STD / HEAD_STD)
    return values


def _normal(name: str, seed: int, shape: tuple[int, ...]) -> Float32Array:
    # RandomState's streams are frozen for ever (NEP 19), the newer Generator's may change with numpy: every machine
    # gets the same model. The name goes into the seed so that no tensor depends on the order of the others.
    stream = np.random.RandomState([seed, zlib.crc32(name.encode())])
    return stream.standard_normal(shape).astype(np.float32)
