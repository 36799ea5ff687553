"""Writes the files of a Qwen tokenizer: byte-level BPE with ChatML specials and tool-call tags.

What lives here: the parts that every Qwen2.5 and Qwen3 tokenizer shares, as the publisher's tokenizer.json has them.
What must not: where vocabulary and merges come from (gguf_conversion.py, tiny.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|im_end|>"
ADDED_TOKENS = (
    (END_OF_TEXT, True),
    ("<|im_start|>", True),
    (END_OF_TURN, True),
    ("<|object_ref_start|>", True),
    ("<|object_ref_end|>", True),
    ("<|box_start|>", True),
    ("<|box_end|>", True),
    ("<|quad_start|>", True),
    ("<|quad_end|>", True),
    ("<|vision_start|>", True),
    ("<|vision_end|>", True),
    ("<|vision_pad|>", True),
    ("<|image_pad|>", True),
    ("<|video_pad|>", True),
    ("<tool_call>", False),
    ("</tool_call>", False),
    ("<|fim_prefix|>", False),
    ("<|fim_middle|>", False),
    ("<|fim_suffix|>", False),
    ("<|fim_pad|>", False),
    ("<|repo_name|>", False),
    ("<|file_sep|>", False),
)
"""The 22 tokens behind the vocabulary, in id order. True: special, left out of the text. The tool-call tags are not
special on purpose: a tool parser finds calls by them, so they have to stay in the text."""

SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where text is cut before merging: contractions, words, single digits, punctuation runs, whitespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QwenTokenizer:
    """A tokenizer: tokens in id order (in byte-level letters), merges in rank order, the chat template."""

    tokens: Sequence[str]
    merges: Sequence[str]
    chat_template: str
    context_tokens: int

    @property
    def vocabulary_size(self) -> int:
        """All ids, those of the added tokens among them."""
        return len(self.tokens) + len(ADDED_TOKENS)

    def added_id(self, content: str) -> int:
        """The id of an added token."""
        return len(self.tokens) + [name for name, _ in ADDED_TOKENS].index(content)

    def write(self, folder: Path) -> None:
        """Write tokenizer.json, tokenizer_config.json and chat_template.jinja into `folder`."""
        (folder / "tokenizer.json").write_text(json.dumps(self._tokenizer(), ensure_ascii=False), encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(self._config(), indent=1), encoding="utf-8")
        (folder / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8")

    def generation_ids(self) -> dict[str, Any]:
        """The ids that end or pad a text, for generation_config.json: both ends of a turn stop the generation."""
        end_of_text = self.added_id(END_OF_TEXT)
        return {
            "bos_token_id": end_of_text,
            "eos_token_id": [self.added_id(END_OF_TURN), end_of_text],
            "pad_token_id": end_of_text,
        }

    def _tokenizer(self) -> dict[str, Any]:
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        split = {"type": "Split", "pattern": {"Regex": SPLIT_PATTERN}, "behavior": "Isolated", "invert": False}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": token_id, **entry} for token_id, entry in self._added().items()],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {token: token_id for token_id, token in enumerate(self.tokens)},
                "merges": list(self.merges),
            },
        }

    def _config(self) -> dict[str, Any]:
        return {
            "add_bos_token": False,
            "add_prefix_space": False,
            "added_tokens_decoder": {str(token_id): entry for token_id, entry in self._added().items()},
            "bos_token": None,
            "clean_up_tokenization_spaces": False,
            "eos_token": END_OF_TURN,
            "errors": "replace",
            "model_max_length": self.context_tokens,
            "pad_token": END_OF_TEXT,
            "split_special_tokens": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        }

    def _added(self) -> dict[int, dict[str, Any]]:
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        return {
            len(self.tokens) + offset: {"content": content, **flags, "special": special}
            for offset, (content, special) in enumerate(ADDED_TOKENS)
        }
