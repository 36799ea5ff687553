"""How many tokens a prompt has, as far as routing needs to know.

Exact with the model's own tokenizer.json and chat template, in a worker thread where the text is long. Two things
save the work: a prompt that surely fits the smallest pool is not tokenized (a byte-level tokenizer never makes more
tokens than bytes), and a model without a tokenizer here is estimated. What must not live here: choosing a pool, HTTP.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from tokenizers import Tokenizer

from cluster.core.prompt import Conversation, CountKind, Prompt, PromptTokens, Texts, TokenIds
from services.gateway.templates import ChatTemplate, TemplateError, load_chat_template

logger = logging.getLogger(__name__)

TOKENIZER_THREADS = 2
"""Long prompts tokenized at once. Each takes a core for about 50 ms per 100k tokens, and the event loop needs one."""
INLINE_BYTES = 16 * 1024
"""Texts up to this size are rendered on the event loop (well under a millisecond): a thread hop costs as much."""
INLINE_TOKENIZE_BYTES = 1024
"""Tokenizing is some 20 times slower than rendering: 0.4 ms for this much."""
ESTIMATED_BYTES_PER_TOKEN = 3.0
"""For models without a tokenizer here. Qwen's tokenizer makes 4.3 bytes a token of English, 4.0 of code, 5.1 of
Chinese, 1.4 of base64: this lies under the common ones, so most estimates are too long, not too short, and an engine
that would silently cut a prompt does not get one that is over its limit."""
ESTIMATED_TOKENS_PER_MESSAGE = 8
"""Role and separators that a template adds around a message."""
NFC_GROWTH = 3
"""Unicode's NFC makes UTF-8 text at most three times longer (Unicode FAQ, normalization)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counting:
    """What counts one model's tokens."""

    tokenizer: Tokenizer
    template: ChatTemplate | None
    bytes_growth: int | None
    """Tokens are at most this many times the text's bytes; None where nothing is proven."""
    special_tokens: int
    """What the tokenizer adds to a text by itself, at most."""

    def at_most(self, text: str, *, add_special_tokens: bool) -> int | None:
        """An upper bound without tokenizing; None where there is none."""
        if self.bytes_growth is None:
            return None
        # One more for the space that some byte-level tokenizers put in front.
        return _size_bytes(text) * self.bytes_growth + 1 + (self.special_tokens if add_special_tokens else 0)

    def exact(self, text: str, *, add_special_tokens: bool) -> int:
        return len(self.tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0])

    def longest(self, texts: Texts) -> int:
        """The exact length of the longest text; texts too small to be it are not tokenized."""
        longest = 0
        for text in sorted(texts.texts, key=len, reverse=True):
            bound = self.at_most(text, add_special_tokens=texts.add_special_tokens)
            if bound is None or bound > longest:
                longest = max(longest, self.exact(text, add_special_tokens=texts.add_special_tokens))
        return longest


class PromptCounter:
    """Counts prompts of every model that has a folder here."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=TOKENIZER_THREADS, thread_name_prefix="tokenizer")
        self._folders: dict[str, Path] = {}
        self._loading: dict[Path, asyncio.Future[_Counting | None]] = {}

    def use(self, folders: Mapping[str, Path]) -> None:
        """Tell where each model's tokenizer is, and start to load what is new."""
        self._folders = dict(folders)
        empty = [folder for folder, loading in self._loading.items() if loading.done() and loading.result() is None]
        for folder in empty:
            del self._loading[folder]  # its tokenizer may have arrived since
        for folder in self._folders.values():
            self._load(folder)

    async def ready(self) -> None:
        """Wait until every tokenizer is loaded."""
        await asyncio.gather(*self._loading.values())

    def close(self) -> None:
        """Stop the worker threads; a count in progress finishes first."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def count(self, model_id: str, prompt: Prompt | None, *, enough_tokens: int) -> PromptTokens:
        """The length of `prompt`.

        Args:
            model_id: the model's id in the configuration.
            prompt: what to count; None counts as empty.
            enough_tokens: a prompt of at most this many tokens fits the smallest pool, so an upper bound within it
                is answer enough.
        """
        if prompt is None:
            return PromptTokens(tokens=0, kind=CountKind.EXACT)
        if isinstance(prompt, TokenIds):
            return PromptTokens(tokens=prompt.longest_tokens, kind=CountKind.EXACT)
        folder = self._folders.get(model_id)
        # Shielded: a client that leaves must not cancel the loading that others wait for.
        counting = None if folder is None else await asyncio.shield(self._load(folder))
        if counting is None:
            return _estimate(prompt)
        if _rough_bytes(prompt) <= INLINE_BYTES:
            quick = _count(counting, prompt, enough_tokens, tokenize_bytes=INLINE_TOKENIZE_BYTES)
            if quick is not None:
                return quick
        loop = asyncio.get_running_loop()
        counted = await loop.run_in_executor(self._threads, _count, counting, prompt, enough_tokens, None)
        assert counted is not None
        return counted

    def _load(self, folder: Path) -> asyncio.Future[_Counting | None]:
        loading = self._loading.get(folder)
        if loading is None:
            loop = asyncio.get_running_loop()
            loading = self._loading[folder] = loop.run_in_executor(self._threads, _load_counting, folder)
        return loading


def _count(
    counting: _Counting, prompt: Conversation | Texts, enough_tokens: int, tokenize_bytes: int | None
) -> PromptTokens | None:
    """Count, or None where more than `tokenize_bytes` would have to be tokenized (None: any amount may be)."""
    kind = CountKind.EXACT if prompt.is_faithful else CountKind.ABOUT
    if isinstance(prompt, Conversation):
        try:
            if counting.template is None:
                return _estimate(prompt)
            prompt = Texts(texts=(counting.template.render(prompt),), add_special_tokens=False)
        except TemplateError:
            return _estimate(prompt)
    bounds = [counting.at_most(text, add_special_tokens=prompt.add_special_tokens) for text in prompt.texts]
    known = [bound for bound in bounds if bound is not None]
    bound = max(known, default=0)
    if len(known) == len(bounds) and bound <= enough_tokens:
        return PromptTokens(tokens=bound, kind=CountKind.AT_MOST)
    if tokenize_bytes is not None and sum(map(_size_bytes, prompt.texts)) > tokenize_bytes:
        return None
    return PromptTokens(tokens=counting.longest(prompt), kind=kind)


def _estimate(prompt: Conversation | Texts) -> PromptTokens:
    if isinstance(prompt, Texts):
        size_bytes, extra_tokens = max(map(_size_bytes, prompt.texts), default=0), 2
    else:
        size_bytes = sum(len(json.dumps(part, ensure_ascii=False)) for part in prompt.tools)
        size_bytes += sum(_content_bytes(message) for message in prompt.messages)
        extra_tokens = ESTIMATED_TOKENS_PER_MESSAGE * (len(prompt.messages) + 1)
    tokens = math.ceil(size_bytes / ESTIMATED_BYTES_PER_TOKEN) + extra_tokens
    return PromptTokens(tokens=tokens, kind=CountKind.ABOUT)


def _content_bytes(message: Mapping[str, Any]) -> int:
    total = 0
    pending: list[Any] = [message.get("content"), message.get("tool_calls")]
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            total += _size_bytes(value)
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, dict):
            # An image is not read as its base64 text.
            pending.extend(item for key, item in value.items() if key not in {"image_url", "source", "input_audio"})
    return total


def _rough_bytes(prompt: Conversation | Texts) -> int:
    if isinstance(prompt, Texts):
        return sum(map(len, prompt.texts))
    return sum(_content_bytes(message) for message in prompt.messages) + 256 * len(prompt.tools)


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _load_counting(folder: Path) -> _Counting | None:
    """Load a model's tokenizer; None, with a line in the log, where there is none that works."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        logger.warning("no tokenizer, prompts are estimated", extra={"folder": str(folder)})
        return None
    try:
        tokenizer = Tokenizer.from_file(str(path))
        template = load_chat_template(folder)
    # The tokenizers library raises bare Exception for a file it cannot read.
    except (Exception, jinja2.TemplateError):
        logger.exception("tokenizer cannot be used, prompts are estimated", extra={"folder": str(folder)})
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return _Counting(
        tokenizer=tokenizer,
        template=template,
        bytes_growth=_bytes_growth(tokenizer),
        special_tokens=tokenizer.num_special_tokens_to_add(is_pair=False),
    )


def _bytes_growth(tokenizer: Tokenizer) -> int | None:
    """How many tokens a byte of text can become at most, where the tokenizer's kind proves it.

    Byte-level BPE starts from one symbol a byte and only merges; an added token replaces at least one byte.
    """
    model = type(tokenizer.model).__name__
    before = repr(tokenizer.pre_tokenizer)
    normalizer = repr(tokenizer.normalizer)
    if model != "BPE" or "ByteLevel" not in before:
        return None
    if normalizer == "None":
        return 1
    return NFC_GROWTH if normalizer == "NFC()" else None
