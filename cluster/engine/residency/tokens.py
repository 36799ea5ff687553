"""From token ids to the bytes they stand for, and from text to token ids, by a model's tokenizer.json.

Byte-level BPE only (GPT-2, Llama 3, Qwen, DeepSeek): there a text is exactly the concatenation of its tokens' bytes.
With sentencepiece's kinds it is not, and chains of text would not meet. What must not live here: vLLM, blocks, chains.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_BYTES_MAX = 256 << 20
"""The largest published have some 35 MB."""
TOKEN_IDS_MAX = 4_194_304
"""Vocabularies have up to 262,144; a stray id must not make a huge table."""
SAMPLES = (
    "The quick brown fox\n\tjumps over 12,345.678 lazy dogs.  \r\n",
    "def f(x: int) -> str:\n    return {'a': [x ** 2, \"ü\"]}  # ok\n",
    "今天天气很好。日本語テキスト 한국어 ไทย العربية हिन्दी",
    "🎉😀👩‍👩‍👧‍👦 e\u0301 naïve ﬁ \u00a0\u200b\ufeff",
    " \n \n\n   x",
)
"""What a tokenizer has to give back byte by byte, to be taken for a byte-level one."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a tokenizer cannot be used here."""

    reason: str


class TextTokens:
    """A byte-level tokenizer.

    Attributes:
        table: each token's bytes by its id; None for ids that stand for no text.
        specials: ids of added tokens: text is cut at them before anything else.
    """

    def __init__(self, tokenizer: Tokenizer, table: Sequence[bytes | None], specials: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self.table = table
        self.specials = specials

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without tokens that a model wants around it."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def read_tokens(folder: Path) -> TextTokens | Unfit:
    """The tokenizer of the model in `folder`; takes a second or two for a large one."""
    path = folder / TOKENIZER_FILE
    try:
        if path.stat().st_size > TOKENIZER_BYTES_MAX:
            return Unfit(f"{TOKENIZER_FILE} is too large")
        document = json.loads(path.read_bytes())
        reason = _not_byte_level(document)
        if reason is not None:
            return Unfit(reason)
        tokens = TextTokens(Tokenizer.from_file(str(path)), _table(document), _specials(document))
    except FileNotFoundError:
        return Unfit(f"there is no {TOKENIZER_FILE}")
    # Whatever the file has in a place where something else is expected; `tokenizers` raises bare Exceptions.
    except Exception as error:  # noqa: BLE001
        return Unfit(f"{TOKENIZER_FILE} is not understood: {type(error).__name__}: {error}")
    for sample in SAMPLES:
        parts = [tokens.table[token] for token in tokens.encode(sample)]
        text = b"".join(part or b"?" for part in parts)
        if text not in {sample.encode(), unicodedata.normalize("NFC", sample).encode()}:
            return Unfit("the tokenizer does not give its text back byte by byte")
    return tokens


def byte_letters() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others for code points from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return letters | {chr(256 + place): byte for place, byte in enumerate(others)}


def _not_byte_level(document: dict[str, Any]) -> str | None:
    model = document["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        return f"the tokenizer is no byte-level BPE but {model.get('type')}"
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return "the tokenizer marks the inside or the end of words"
    levels = [part for part in _parts(document.get("pre_tokenizer")) if part.get("type") == "ByteLevel"]
    if not levels or all(part.get("type") != "ByteLevel" for part in _parts(document.get("decoder"))):
        return "the tokenizer is not byte-level"
    if any(part.get("add_prefix_space") for part in levels):
        return "the tokenizer puts a space before a text"
    return None


def _parts(stage: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A stage's parts: itself, or what a sequence is made of."""
    if stage is None:
        return []
    inner = stage.get("pretokenizers") or stage.get("decoders")
    return [stage] if inner is None else [part for child in inner for part in _parts(child)]


def _table(document: dict[str, Any]) -> list[bytes | None]:
    letters = byte_letters()
    texts: dict[int, bytes] = {}
    for token, token_id in document["model"]["vocab"].items():
        if all(letter in letters for letter in token):
            texts[int(token_id)] = bytes(letters[letter] for letter in token)
    for entry in document.get("added_tokens") or ():
        texts[int(entry["id"])] = str(entry["content"]).encode()
    size = max(texts, default=-1) + 1
    if not 0 < size <= TOKEN_IDS_MAX:
        raise ValueError(f"token ids up to {size - 1}")
    return [texts.get(token_id) or None for token_id in range(size)]


def _specials(document: dict[str, Any]) -> frozenset[int]:
    return frozenset(int(entry["id"]) for entry in document.get("added_tokens") or ())
