"""Request bodies of the bench, as files: short ones, streams, and prompts of very many tokens in four kinds of text.

What must not live here: sending them.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MODEL = "fake"
MARK = "#00000000#"
"""The load client writes the request's number over it, so that no two prompts are the same."""
SEED = 20_261_101
SAMPLE_CHARACTERS = 40_000
"""Enough text to know a kind's characters per token to a percent."""
TEMPLATE_TOKENS = 16
"""Role and separators of a chat template around one message, and the mark."""
ENGLISH = (
    "the committee agreed that every later report should compare the harvest of each province with what was measured "
    "before because several older figures had been written down twice and nobody could say which of them was right "
    "while new tables from northern stations arrived in another form with different units and without their sources"
)
CHINESE = (
    "委员会 同意 今后 每份 报告 都应 比较 各省 的 收成 和 以前 测量 的 结果 "
    "因为 一些 较早 的 数字 被 记录 了 两次 没有 人 能 说出 哪个 正确 同时 北方 观测站 寄来 的 新 表格 "
    "采用 不同 格式 单位 也 不一样 而且 没有 注明 来源"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongPrompt:
    """One body with a prompt of very many tokens."""

    kind: str
    body: Path
    tokens: int
    body_bytes: int


class Bodies:
    """Writes bodies into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def short(self, *, max_tokens: int, stream: bool) -> Path:
        """A chat request of a few words."""
        return self._write(f"short-{max_tokens}-{stream}", "Say hi.", 24, max_tokens=max_tokens, stream=stream)

    def long(self, kind: str, tokens: int, tokenizer: Tokenizer) -> LongPrompt:
        """A chat request whose prompt has about `tokens` tokens of one kind of text (`KINDS`)."""
        write_text = KINDS[kind]
        sample = write_text(random.Random(SEED), SAMPLE_CHARACTERS)  # noqa: S311 - filler, guards nothing
        characters = int(tokens * len(sample) / _count(tokenizer, sample))
        text = write_text(random.Random(SEED), characters)  # noqa: S311 - as above
        exact = _count(tokenizer, text) + TEMPLATE_TOKENS
        body = self._write(f"long-{kind}", text, exact, max_tokens=1, stream=False, escape=kind in ESCAPED_KINDS)
        return LongPrompt(kind=kind, body=body, tokens=exact, body_bytes=body.stat().st_size)

    def _write(
        self, name: str, prompt: str, prompt_tokens: int, *, max_tokens: int, stream: bool, escape: bool = False
    ) -> Path:
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"{MARK} {prompt}"}],
            "max_tokens": max_tokens,
            "stream": stream,
            # The fake engine has no tokenizer: what it reports to the gateway is said here. It comes last, because
            # the engine looks at a body's ends only.
            "x_prompt_tokens": prompt_tokens,
        }
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(body, ensure_ascii=escape), encoding="utf-8")
        return path


def english(rng: random.Random, characters: int) -> str:
    """Words of one language in random order; a tokenizer sees them as ordinary text."""
    return _joined(rng, ENGLISH.split(), characters, " ")


def chinese(rng: random.Random, characters: int) -> str:
    """The same in Chinese."""
    return _joined(rng, CHINESE.split(), characters, "")


def base64_text(rng: random.Random, characters: int) -> str:
    """An attachment: random bytes in base64."""
    return base64.b64encode(rng.randbytes(characters * 3 // 4 + 3)).decode()[:characters]


KINDS: dict[str, Callable[[random.Random, int], str]] = {
    "english": english,
    "chinese": chinese,
    "escaped": chinese,
    "base64": base64_text,
}
ESCAPED_KINDS = frozenset({"escaped"})
"""Chinese written as \\uXXXX, as many JSON libraries do by default: twice the bytes, and none of them readable."""


def _joined(rng: random.Random, words: list[str], characters: int, separator: str) -> str:
    parts: list[str] = []
    total = 0
    while total < characters:
        parts.append(rng.choice(words))
        total += len(parts[-1]) + len(separator)
    return separator.join(parts)[:characters]


def _count(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False))
