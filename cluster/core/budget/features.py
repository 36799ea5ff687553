"""What a prompt's text looks like, counted on a bounded sample in C speed.

Tokenizers of the BPE kind split a text where kinds of character meet and then merge what is common, so the tokens of
a text follow from how many characters of each kind it has and how often kinds meet ("a " a word's end, "aA" a change of
case within one, as base64 has it). What lives here: the sample, the counts, and the coarse class of a text. What must
not: weights that are learned, anything about messages but their number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

SAMPLE_SLICES = 64
"""Slices spread over a long text. A text that is half one kind, half another is then off by 1/128 at most."""
SLICE_CHARS = 64
"""Some ten words: pairs of characters cut at the ends of slices are 1 in 64. 64 slices cost about 0.2 ms to count."""
SAMPLE_CHARS = SAMPLE_SLICES * SLICE_CHARS
"""Texts up to this are looked at whole."""
_GOLDEN = 0.6180339887498949
"""Each slice is shifted within its share of the text by multiples of this, so that rows of a fixed width in a table
are not always cut at the same column (the additive recurrence with the smallest discrepancy; Niederreiter 1992)."""
_BETWEEN_SLICES = "\0"

LOWER, UPPER, DIGIT, BREAK, SPACE, JOINER, MARK, NOTHING = b"aA0n _.|"
WIDE_2, WIDE_3, WIDE_4, QUOTE, KANA, HAN, FULL = b"234QJCF"


def _kind(byte: int) -> int:  # noqa: PLR0911 - a table in words
    """The kind of the character whose UTF-8 form starts with `byte`."""
    if byte >= 0x80:  # noqa: PLR2004 - the first byte of a character beyond ASCII says its script
        return _wide_kind(byte)
    character = chr(byte)
    if character.islower():
        return LOWER
    if character.isupper():
        return UPPER
    if character.isdigit():
        return DIGIT
    if character == " ":
        return SPACE
    if character in "\n\r\t":
        return BREAK
    if character == "_":
        return JOINER
    return NOTHING if character == _BETWEEN_SLICES else MARK


def _wide_kind(byte: int) -> int:
    if byte < 0xE0:  # noqa: PLR2004
        return WIDE_2
    if byte >= 0xF0:  # noqa: PLR2004
        return WIDE_4
    if 0xE4 <= byte <= 0xE9:  # noqa: PLR2004 - U+4000 to U+9FFF
        return HAN
    return {0xE2: QUOTE, 0xE3: KANA, 0xEF: FULL}.get(byte, WIDE_3)


_KINDS = bytes(map(_kind, range(256)))
_CONTINUATION = bytes(range(0x80, 0xC0))
"""Bytes within a character; dropped, so that one character is one byte."""
_COMMON_QUOTES = b"\xe2\x80"
"""Dashes and typographic quotes, U+2000 to U+203F; the rest of their row (arrows, boxes, braille) costs far more."""


class TextClass(StrEnum):
    """The coarse kind of a text: what most of its tokens come from. Each class learns for itself."""

    PROSE = "prose"
    MARKED = "marked"
    """Code, markup, JSON: words between punctuation."""
    NUMBERS = "numbers"
    """Digits, alone or among letters: base64, hex, escapes, tables."""
    CASED = "cased"
    """Capitals and changes of case within words: names of constants and types."""
    HAN = "han"
    OTHER = "other"
    """Other scripts, drawings, emoji."""
    MIXED = "mixed"
    """Half one thing, half another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One thing that is counted."""

    pattern: bytes
    """Kinds of characters in a row; empty where it is not a pattern that is counted."""
    tokens: float
    """Tokens that each is worth before anything was learned: fitted on Qwen2.5's tokenizer (docs/decisions/0013)."""
    text_class: TextClass | None


LEAST_SHARE = 0.45
"""Of a text's tokens, for a class to speak for it. Mixtures err three times as much as what they are made of, so they
are kept apart."""

PROSE, MARKED, NUMBERS, CASED, HAN_TEXT, OTHER, MIXED = TextClass
FEATURES = (
    Feature(pattern=b"a", tokens=0.09, text_class=PROSE),
    Feature(pattern=b"a ", tokens=0.55, text_class=PROSE),
    Feature(pattern=b"an", tokens=1.0, text_class=PROSE),
    Feature(pattern=b"a.", tokens=0.7, text_class=MARKED),
    Feature(pattern=b"A.", tokens=1.2, text_class=MARKED),
    Feature(pattern=b".", tokens=0.35, text_class=MARKED),
    Feature(pattern=b" .", tokens=0.75, text_class=MARKED),
    Feature(pattern=b"_", tokens=0.45, text_class=MARKED),
    Feature(pattern=b"n", tokens=0.4, text_class=MARKED),
    Feature(pattern=b"n ", tokens=0.2, text_class=MARKED),
    Feature(pattern=b"A", tokens=0.05, text_class=CASED),
    Feature(pattern=b"aA", tokens=1.0, text_class=CASED),
    Feature(pattern=b"AA", tokens=0.35, text_class=CASED),
    Feature(pattern=b"A0", tokens=1.3, text_class=NUMBERS),
    Feature(pattern=b"0A", tokens=2.4, text_class=NUMBERS),
    Feature(pattern=b"0a", tokens=0.4, text_class=NUMBERS),
    Feature(pattern=b"0", tokens=1.3, text_class=NUMBERS),
    Feature(pattern=b" 0", tokens=0.9, text_class=NUMBERS),
    Feature(pattern=b"C", tokens=0.63, text_class=HAN_TEXT),
    Feature(pattern=b"J", tokens=0.6, text_class=HAN_TEXT),
    Feature(pattern=b"F", tokens=0.85, text_class=HAN_TEXT),
    Feature(pattern=b"2", tokens=0.6, text_class=OTHER),
    Feature(pattern=b"3", tokens=1.2, text_class=OTHER),
    Feature(pattern=b"4", tokens=1.5, text_class=OTHER),
    Feature(pattern=b"Q", tokens=1.6, text_class=OTHER),
    Feature(pattern=b"", tokens=0.7, text_class=HAN_TEXT),  # common quotes
    Feature(pattern=b"", tokens=0.01, text_class=None),  # every character
    Feature(pattern=b"", tokens=5.0, text_class=None),  # messages
    Feature(pattern=b"", tokens=5.0, text_class=None),  # one a prompt
)
_PATTERNS = tuple(feature.pattern for feature in FEATURES if feature.pattern)
_QUOTE_INDEX = _PATTERNS.index(b"Q")
_BY_CLASS = tuple(
    (text_class, tuple(index for index, feature in enumerate(FEATURES) if feature.text_class is text_class))
    for text_class in TextClass
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFeatures:
    """What was counted of one prompt, scaled from the sample to the whole."""

    counts: tuple[float, ...]
    """One number for each of `FEATURES`."""
    text_class: TextClass
    is_plain: bool
    """Whether the engine reads this text and little else; tools and converted forms are learned apart."""
    sampled_tokens: float | None = None
    """What the model's own tokenizer made of a sample, scaled to the whole; None where it was not asked."""
    sampled_slices: int = SAMPLE_SLICES
    """How many slices that sample had."""


def features_of(texts: Sequence[str], *, messages: int, is_plain: bool) -> PromptFeatures:
    """Look at a prompt.

    Args:
        texts: all that the model will read, in order, decoded; their whole length may be anything.
        messages: how many messages a template wraps around them; 0 for a plain text.
        is_plain: see `PromptFeatures`.
    """
    chars = sum(map(len, texts))
    raw = sample_of(texts, chars).encode("utf-8", "surrogatepass")
    kinds = raw.translate(_KINDS, _CONTINUATION)
    counts: list[float] = [kinds.count(pattern) for pattern in _PATTERNS]
    quotes = 0 if len(raw) == len(kinds) else raw.count(_COMMON_QUOTES)
    counts[_QUOTE_INDEX] -= quotes
    counts += (quotes, min(chars, SAMPLE_CHARS))
    if chars > SAMPLE_CHARS:
        scale = chars / SAMPLE_CHARS
        counts = [count * scale for count in counts]
    counts += (messages, 1)
    return PromptFeatures(counts=tuple(counts), text_class=_class_of(counts), is_plain=is_plain)


def sample_of(texts: Sequence[str], chars: int, slices: int = SAMPLE_SLICES) -> str:
    """What is looked at of texts that are `chars` long together: everything, or slices with a NUL between them."""
    if chars <= slices * SLICE_CHARS:
        return "".join(texts)
    return _BETWEEN_SLICES.join(_slices(texts, chars, slices))


def scaled_sample(sample_tokens: int, chars: int, slices: int) -> float:
    """Tokens of a whole text of `chars`, when `sample_of` it, in so many slices, has `sample_tokens`.

    A NUL is a token, and each slice's cut ends make about one more.
    """
    return max(sample_tokens - 2 * slices + 1, 1) * chars / (slices * SLICE_CHARS)


def _slices(texts: Sequence[str], chars: int, slices: int) -> list[str]:
    """Slices of the texts laid end to end, evenly spread."""
    stride = (chars - SLICE_CHARS) / slices
    ends = list(accumulate(map(len, texts)))
    pieces: list[str] = []
    for number in range(slices):
        at = int((number + number * _GOLDEN % 1.0) * stride)
        index = bisect_right(ends, at)
        begin = at - ends[index] + len(texts[index])
        piece = texts[index][begin : begin + SLICE_CHARS]
        while len(piece) < SLICE_CHARS:
            index += 1
            piece += texts[index][: SLICE_CHARS - len(piece)]
        pieces.append(piece)
    return pieces


def _class_of(counts: Sequence[float]) -> TextClass:
    """What the most tokens come from, at the weights before learning: so a text's class never changes."""
    best, most, total = TextClass.PROSE, 0.0, 0.0
    for text_class, indexes in _BY_CLASS:
        tokens = sum([counts[index] * FEATURES[index].tokens for index in indexes])
        total += tokens
        if tokens > most:
            best, most = text_class, tokens
    return best if most >= LEAST_SHARE * total else TextClass.MIXED
