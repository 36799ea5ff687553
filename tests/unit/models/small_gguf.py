"""Writes a Qwen2 GGUF of two small layers: 8-bit random weights, a tokenizer of bytes and one merge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quantize

from cluster.models.qwen_tokenizer import ADDED_TOKENS
from cluster.models.tiny import byte_letters

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = [*byte_letters(), "ab", *(name for name, _ in ADDED_TOKENS), "[PAD]"]
HIDDEN = 64
INTERMEDIATE = 96
HEADS = 2
KV_HEADS = 1
LAYERS = 2
CONTEXT_TOKENS = 2048


def write_gguf(path: Path) -> None:
    """Write the file; the same bytes each time."""
    writer = GGUFWriter(path, "qwen2")
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_merges(["a b"])
    writer.add_chat_template("{%- for m in messages %}{{ m.content }}{%- endfor %}")
    _add_tensors(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tensors(writer: GGUFWriter) -> None:
    stream = np.random.RandomState(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        kind = GGMLQuantizationType.Q8_0
        values = stream.standard_normal((rows, columns)).astype(np.float32)
        writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)

    def vector(name: str, size: int) -> None:
        writer.add_tensor(name, stream.standard_normal(size).astype(np.float32))

    matrix("token_embd.weight", len(TOKENS), HIDDEN)
    vector("output_norm.weight", HIDDEN)
    kv_size = HIDDEN // HEADS * KV_HEADS
    for layer in range(LAYERS):
        prefix = f"blk.{layer}."
        matrix(f"{prefix}attn_q.weight", HIDDEN, HIDDEN)
        matrix(f"{prefix}attn_k.weight", kv_size, HIDDEN)
        matrix(f"{prefix}attn_v.weight", kv_size, HIDDEN)
        matrix(f"{prefix}attn_output.weight", HIDDEN, HIDDEN)
        matrix(f"{prefix}ffn_gate.weight", INTERMEDIATE, HIDDEN)
        matrix(f"{prefix}ffn_up.weight", INTERMEDIATE, HIDDEN)
        matrix(f"{prefix}ffn_down.weight", HIDDEN, INTERMEDIATE)
        vector(f"{prefix}attn_q.bias", HIDDEN)
        vector(f"{prefix}attn_k.bias", kv_size)
        vector(f"{prefix}attn_v.bias", kv_size)
        vector(f"{prefix}attn_norm.weight", HIDDEN)
        vector(f"{prefix}ffn_norm.weight", HIDDEN)
