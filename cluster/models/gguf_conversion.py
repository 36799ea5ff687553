"""Turns a Qwen2 GGUF file into the folder vLLM loads: bf16 safetensors, config, tokenizer.

What lives here: names, shapes and values from GGUF to the transformers layout, a piece at a time. What must not: where
the GGUF came from. transformers can load a GGUF but not save one, and vLLM 0.32 has no GGUF loader.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.models.faults import store_error
from cluster.models.qwen_tokenizer import ADDED_TOKENS, END_OF_TEXT, END_OF_TURN, QwenTokenizer
from cluster.models.safetensors_writer import Tensor, write_safetensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gguf import GGUFReader, ReaderTensor

    from cluster.models.card import SamplingDefaults
    from cluster.models.progress import Progress
    from cluster.models.safetensors_writer import Float32Array

PIECE_VALUES = 8 << 20
"""Values dequantized at a time: 32 MiB in float32, so the peak is set by the metadata, not by the largest matrix."""
NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""llama.cpp's name of a part of a layer, and transformers'."""
BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gguf:
    """An opened GGUF file: its metadata, and its tensors mapped from disk."""

    fields: Mapping[str, Any]
    tensors: Mapping[str, ReaderTensor]

    def number(self, key: str) -> Any:
        """A metadata value of the architecture."""
        return self.fields[f"qwen2.{key}"].contents()


def convert(gguf_path: Path, folder: Path, sampling: SamplingDefaults, progress: Progress) -> None:
    """Write the model in `gguf_path` into `folder`; `sampling` goes into its generation_config.json.

    Raises:
        ModelStoreError: the gguf package is missing, or the file is not a Qwen2 model.
    """
    progress("reading the GGUF", 0, None)
    gguf = _open(gguf_path)
    _write_small_files(gguf, folder, sampling)
    tensors = _tensors(gguf)
    total_bytes = sum(tensor.size_bytes for tensor in tensors)
    write_safetensors(
        folder / "model.safetensors", tensors, lambda done_bytes: progress("converting", done_bytes, total_bytes)
    )


def convert_small_files(gguf_path: Path, folder: Path, sampling: SamplingDefaults) -> None:
    """Write all but the weights; of the file only its beginning has to be there, as long as it has its full size.

    Raises:
        ModelStoreError: as `convert`.
    """
    _write_small_files(_open(gguf_path), folder, sampling)


def _write_small_files(gguf: Gguf, folder: Path, sampling: SamplingDefaults) -> None:
    context_tokens = int(gguf.number("context_length"))
    tokenizer = _tokenizer(gguf, context_tokens)
    tokenizer.write(folder)
    _write_json(folder / "config.json", _config(gguf, tokenizer, context_tokens))
    # Greedy is not the publisher's default: without do_sample readers ignore the sampling values.
    generation = {**tokenizer.generation_ids(), "do_sample": True, **sampling.given()}
    _write_json(folder / "generation_config.json", generation)


def _open(path: Path) -> Gguf:
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise store_error("converting the demo model needs the gguf package", "pip install gguf") from error
    try:
        reader: GGUFReader = GGUFReader(path)
        gguf = Gguf(fields=reader.fields, tensors={tensor.name: tensor for tensor in reader.tensors})
        architecture = gguf.fields["general.architecture"].contents()
    except (ValueError, KeyError, IndexError) as error:
        raise store_error(f"{path} is not a GGUF file: {error}", "remove the model and pull it again") from error
    if architecture != "qwen2":
        raise store_error(f"{path} holds a {architecture} model; only qwen2 is converted", "use safetensors weights")
    return gguf


def _tokenizer(gguf: Gguf, context_tokens: int) -> QwenTokenizer:
    tokens = gguf.fields["tokenizer.ggml.tokens"].contents()
    # The list goes on behind the vocabulary with the added tokens, then with padding up to the matrix's size. Only the
    # vocabulary is BPE; built from the whole list, `<tool_call>` would be special and vanish from the text.
    first_added = tokens.index(END_OF_TEXT)
    if tuple(tokens[first_added : first_added + len(ADDED_TOKENS)]) != tuple(name for name, _ in ADDED_TOKENS):
        raise store_error("the GGUF's added tokens are not those of Qwen2.5", "use safetensors weights")
    return QwenTokenizer(
        tokens=tokens[:first_added],
        merges=gguf.fields["tokenizer.ggml.merges"].contents(),
        chat_template=gguf.fields["tokenizer.chat_template"].contents(),
        context_tokens=context_tokens,
    )


def _config(gguf: Gguf, tokenizer: QwenTokenizer, context_tokens: int) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": int(gguf.tensors["token_embd.weight"].shape[1]),
        "hidden_size": int(gguf.number("embedding_length")),
        "intermediate_size": int(gguf.number("feed_forward_length")),
        "num_hidden_layers": int(gguf.number("block_count")),
        "num_attention_heads": int(gguf.number("attention.head_count")),
        "num_key_value_heads": int(gguf.number("attention.head_count_kv")),
        "max_position_embeddings": context_tokens,
        "rope_theta": float(gguf.number("rope.freq_base")),
        "rms_norm_eps": 1e-06,  # the file has it in float32: 9.999999974752427e-07
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        # Whose layout this is; without a version transformers 5 warns of an old Mistral tokenizer at each load.
        "transformers_version": "4.43.1",
        "bos_token_id": tokenizer.added_id(END_OF_TEXT),
        "eos_token_id": tokenizer.added_id(END_OF_TURN),
    }


def _tensors(gguf: Gguf) -> list[Tensor]:
    """Every tensor under its transformers name.

    Qwen2.5 0.5B ties input and output embeddings. The GGUF holds that one matrix twice, as input in 5 bits and as
    output in 8 (cosine between the two 0.999): the finer one serves for both, which is closer to the original than
    the coarse one and saves 272 MB of memory in every replica.
    """
    tensors = []
    for name, source in gguf.tensors.items():
        if name == "output.weight":
            continue
        if name == "token_embd.weight":
            tensors.append(_tensor("model.embed_tokens.weight", gguf.tensors.get("output.weight", source)))
        elif name == "output_norm.weight":
            tensors.append(_tensor("model.norm.weight", source))
        elif (match := BLOCK.fullmatch(name)) and match[2] in NAMES:
            tensors.append(_tensor(f"model.layers.{match[1]}.{NAMES[match[2]]}.{match[3]}", source))
        else:
            raise store_error(f"the GGUF has a tensor that Qwen2 does not have: {name}", "use safetensors weights")
    return tensors


def _tensor(name: str, source: ReaderTensor) -> Tensor:
    shape = tuple(int(size) for size in reversed(source.shape))  # GGUF counts dimensions from the innermost

    def pieces() -> Iterator[Float32Array]:
        from gguf import dequantize

        rows = max(1, PIECE_VALUES // shape[-1]) if len(shape) > 1 else shape[0]
        for start in range(0, shape[0], rows):
            yield dequantize(np.ascontiguousarray(source.data[start : start + rows]), source.tensor_type)

    return Tensor(name=name, shape=shape, pieces=pieces)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
