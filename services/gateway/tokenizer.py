"""One model's tokenizer and chat template: exact counts, and what is proven about counts without counting.

What must not live here: threads, what to count and when (tokens), learning.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from tokenizers import Tokenizer

from cluster.core.budget.features import sample_of, scaled_sample
from cluster.core.prompt import Conversation, Texts
from services.gateway.templates import ChatTemplate, TemplateError, load_chat_template

logger = logging.getLogger(__name__)

NFC_GROWTH = 3
"""Unicode's NFC makes UTF-8 text at most three times longer (Unicode FAQ, normalization)."""
BOUNDED_CHARS = 64 * 1024
"""Texts up to this are measured exactly for a bound (0.1 ms); longer ones are not worth it: few pools hold as many
tokens as they have bytes."""
PLAIN_ROLES = frozenset({"system", "user", "assistant"})
PLAIN_FIELDS = frozenset({"role", "content"})
_FIRST_ROLES = (("user",), ("system", "user"))
_TRIAL = "\u2603"
WRAPPING_SLACK_BYTES = 8
"""A message more, for what a template adds only where the trials did not reach: a line break, a longer role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapping:
    """What a template adds to plain messages, as trial conversations show it: at most in bytes, about in tokens."""

    base_bytes: int
    message_bytes: int
    base_tokens: int
    message_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """What counts one model's tokens."""

    tokenizer: Tokenizer
    template: ChatTemplate | None
    bytes_growth: int | None
    """Tokens are at most this many times the text's bytes; None where nothing is proven."""
    special_tokens: int
    """What the tokenizer adds to a text by itself, at most."""
    wrapping: Wrapping | None
    """None where trial conversations tell nothing."""
    opening: str = ""
    """What the tokenizer puts in front of a text by itself, as the text of these tokens."""

    def at_most(self, text: str, *, add_special_tokens: bool) -> int | None:
        """An upper bound without tokenizing; None where there is none, or none cheap."""
        if self.bytes_growth is None:
            return None
        # One more for the space that some byte-level tokenizers put in front.
        extra = 1 + (self.special_tokens if add_special_tokens else 0)
        if text.isascii():  # normalization leaves it as it is
            return len(text) + extra
        if len(text) > BOUNDED_CHARS:
            return None
        size_bytes = len(text.encode("utf-8", "surrogatepass"))
        is_stable = self.bytes_growth == 1 or unicodedata.is_normalized("NFC", text)
        return size_bytes * (1 if is_stable else self.bytes_growth) + extra

    def at_most_rendered(self, conversation: Conversation, texts: Iterable[str], enough_tokens: int) -> int | None:
        """An upper bound without rendering; None where it is over `enough_tokens` or there is none.

        It holds for templates that wrap messages one by one, whatever they say.
        """
        if self.wrapping is None or not conversation.is_faithful or not _is_plain(conversation):
            return None
        total = self.wrapping.base_bytes + self.wrapping.message_bytes * len(conversation.messages)
        for text in texts:
            # Bytes are at least as many as characters: long texts end it here.
            bound = self.at_most(text, add_special_tokens=False) if total + len(text) <= enough_tokens else None
            if bound is None:
                return None
            total += bound
        return total if total <= enough_tokens else None

    def exact(self, text: str, *, add_special_tokens: bool) -> int:
        """The tokens of one text."""
        return len(self.tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0])

    def longest(self, texts: Texts) -> int:
        """The exact length of the longest text; texts too small to be it are not tokenized."""
        longest = 0
        for text in sorted(texts.texts, key=len, reverse=True):
            bound = self.at_most(text, add_special_tokens=texts.add_special_tokens)
            if bound is None or bound > longest:
                longest = max(longest, self.exact(text, add_special_tokens=texts.add_special_tokens))
        return longest

    def rendered(self, prompt: Conversation | Texts) -> Texts | None:
        """What the engine will tokenize; None where the template is missing or refuses."""
        if isinstance(prompt, Texts):
            return prompt
        if self.template is None:
            return None
        try:
            return Texts(texts=(self.template.render(prompt),), add_special_tokens=False)
        except TemplateError:
            return None

    def sampled(self, texts: Sequence[str], messages: int, slices: int) -> float:
        """About how many tokens a prompt has, from a sample of its texts in so many slices."""
        chars = sum(map(len, texts))
        sample_tokens = self.exact(sample_of(texts, chars, slices), add_special_tokens=False)
        tokens = scaled_sample(sample_tokens, chars, slices)
        if messages and self.wrapping is not None:
            tokens += self.wrapping.base_tokens + messages * self.wrapping.message_tokens
        return tokens


def load_counting(folder: Path) -> Counting | None:
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
    return Counting(
        tokenizer=tokenizer,
        template=template,
        bytes_growth=_bytes_growth(tokenizer),
        special_tokens=tokenizer.num_special_tokens_to_add(is_pair=False),
        wrapping=None if template is None else _wrapping(tokenizer, template),
        opening="".join(tokenizer.encode("").tokens),
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


def _wrapping(tokenizer: Tokenizer, template: ChatTemplate) -> Wrapping | None:
    """Measure a template on short conversations; None where it refuses them, or repeats what it is given."""
    bases: list[str] = []
    steps: list[tuple[int, int]] = []
    for roles in _FIRST_ROLES:
        short, long = _added(template, roles), _added(template, (*roles, "assistant", "user"))
        if short is None or long is None:
            return None
        bases.append(short)
        tokens = len(tokenizer.encode(long).tokens) - len(tokenizer.encode(short).tokens)
        steps.append((-(-(len(long.encode()) - len(short.encode())) // 2), -(-tokens // 2)))
    return Wrapping(
        base_bytes=max(len(base.encode()) for base in bases),
        message_bytes=max(*[size_bytes for size_bytes, _ in steps], 0) + WRAPPING_SLACK_BYTES,
        base_tokens=len(tokenizer.encode(bases[0], add_special_tokens=False).tokens),
        message_tokens=max(tokens for _, tokens in steps),
    )


def _added(template: ChatTemplate, roles: Sequence[str]) -> str | None:
    try:
        text = template.render(Conversation(messages=tuple({"role": role, "content": _TRIAL} for role in roles)))
    except TemplateError:
        return None
    return None if text.count(_TRIAL) > len(roles) else text.replace(_TRIAL, "")


def _is_plain(conversation: Conversation) -> bool:
    """Whether trial conversations speak for this one: known roles, nothing but content, no template variables."""
    return conversation.template_arguments.keys() <= {"add_generation_prompt"} and all(
        message.keys() <= PLAIN_FIELDS and message.get("role") in PLAIN_ROLES for message in conversation.messages
    )
