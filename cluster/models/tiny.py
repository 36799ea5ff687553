"""The tiny test model: Qwen3's architecture and a real tokenizer, made from a seed in about a second.

What lives here: its shape, its weights, its files. What must not: anything a real model needs.

It says nothing sensible, and says it quickly: prompts of any length up to 262,144 tokens, batches, tensor parallel
over two ranks, chat and tool prompts all take the way a real model takes, with no download. Its tokenizer is the first
7,914 merges of the Qwen2.5 tokenizer (tiny_merges.txt.gz; Apache-2.0, Alibaba Cloud): a byte-level BPE cut at any rank
is a byte-level BPE, so Chinese and everything else still encodes, in more tokens.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.models.qwen_tokenizer import ADDED_TOKENS, QwenTokenizer
from cluster.models.safetensors_writer import Tensor, write_safetensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cluster.models.progress import Progress
    from cluster.models.safetensors_writer import Float32Array

CONTEXT_TOKENS = 262_144
HIDDEN = 64
INTERMEDIATE = 192
LAYERS = 2
HEADS = 4
KV_HEADS = 2
"""Two, so that tensor parallelism over two ranks has one each."""
HEAD_DIM = 32
VOCABULARY = 8_192
ROPE_THETA = 5_000_000.0
EMBEDDING_STD = 0.5
OUTPUT_GAIN = 6.0
"""With the usual initialisation the residual stream is the input embedding, and greedy decoding gets stuck on few
tokens. Attention and MLP outputs six times as strong drown it."""
ATTENTION_SHARPNESS = 4.0
"""Weight of the query norm. At 1 attention is close to a mean over the prompt: after a long or monotonous one nothing
changes from token to token, and greedy decoding ends in one token repeated."""
HEAD_STD = 0.5
"""The output matrix is its own, not the tied embedding: tied, a token's best successor is often itself.

Measured with these three in fp32: 64 greedy tokens hold at least 22 different ones, over word salad, Chinese, a
repeated sentence and one repeated word, each from 10 to 3,000 tokens, and changing the first token changes them all."""
ADDED_TOKEN_HEAD_STD = 0.05
"""A tenth of the others': an added token's logit stays near 0 while the winner's is far above, so greedy decoding never
ends a turn by chance and tests get exactly the tokens they ask for."""
WEIGHTS_BYTES = 2_346_440
"""The size of its safetensors file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyFetch:
    """The tiny model, ready to be made. `revision` has to change with anything in this file that changes the model."""

    seed: int
    revision: str

    @property
    def peak_bytes(self) -> int:
        """Weights and tokenizer, rounded up."""
        return 4 << 20

    def into(self, files: Path, work: Path, progress: Progress) -> None:  # noqa: ARG002 (nothing to keep aside)
        """Write the model's files."""
        write_small_files(files)
        tensors = _tensors(self.seed)
        total_bytes = sum(tensor.size_bytes for tensor in tensors)
        write_safetensors(
            files / "model.safetensors", tensors, lambda done_bytes: progress("generating", done_bytes, total_bytes)
        )


def write_small_files(files: Path) -> None:
    """Write all but the weights."""
    tokenizer = tiny_tokenizer()
    tokenizer.write(files)
    _write_json(files / "config.json", _config(tokenizer))
    _write_json(files / "generation_config.json", tokenizer.generation_ids())


def tiny_tokenizer() -> QwenTokenizer:
    """The tiny model's tokenizer: bytes, then one token for each merge, in rank order."""
    data = resources.files("cluster.models")
    merges = gzip.decompress(data.joinpath("tiny_merges.txt.gz").read_bytes()).decode().split("\n")[:-1]
    tokenizer = QwenTokenizer(
        tokens=[*byte_letters(), *(merge.replace(" ", "") for merge in merges)],
        merges=merges,
        chat_template=data.joinpath("tiny_chat_template.jinja").read_text(encoding="utf-8"),
        context_tokens=CONTEXT_TOKENS,
    )
    if tokenizer.vocabulary_size != VOCABULARY:
        raise ValueError(f"the tiny tokenizer has {tokenizer.vocabulary_size} tokens, not {VOCABULARY}")
    return tokenizer


def byte_letters() -> list[str]:
    """The 256 letters that stand for bytes in byte-level BPE, in id order (GPT-2's table: printable bytes first)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = len(set(range(256)) - set(printable))
    return [chr(code) for code in printable] + [chr(256 + offset) for offset in range(others)]


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


def _config(tokenizer: QwenTokenizer) -> dict[str, Any]:
    ids = tokenizer.generation_ids()
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rope_theta": ROPE_THETA,
        "rope_scaling": None,
        "rms_norm_eps": 1e-06,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "transformers_version": "4.51.0",  # see gguf_conversion.py
        "bos_token_id": ids["bos_token_id"],
        "eos_token_id": ids["eos_token_id"][0],
    }


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
