"""The tiny test model: Qwen3's architecture and a real tokenizer, made from a seed in about a second.

What lives here: its shape and its files. What must not: anything a real model needs, and its weights (tiny_weights.py):
the catalog needs the shape where numpy is not installed, as in the gateway's image.

It says nothing sensible, and says it quickly: prompts of any length up to 262,144 tokens, batches, tensor parallel
over two ranks, chat and tool prompts all take the way a real model takes, with no download. Its tokenizer is the first
7,914 merges of the Qwen2.5 tokenizer (tiny_merges.txt.gz; Apache-2.0, Alibaba Cloud): a byte-level BPE cut at any rank
is a byte-level BPE, so Chinese and everything else still encodes, in more tokens.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from cluster.models.qwen_tokenizer import QwenTokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.models.progress import Progress

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
    """The tiny model, ready to be made.

    `revision` has to change with anything in this file and in tiny_weights.py that changes the model.
    """

    seed: int
    revision: str

    @property
    def peak_bytes(self) -> int:
        """Weights and tokenizer, rounded up."""
        return 4 << 20

    def into(self, files: Path, work: Path, progress: Progress) -> None:  # noqa: ARG002 (nothing to keep aside)
        """Write the model's files."""
        from cluster.models.tiny_weights import write_weights

        write_small_files(files)
        write_weights(files / "model.safetensors", self.seed, progress)


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
