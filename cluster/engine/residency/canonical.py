"""Whether tokens are what the tokenizer makes of their text, looked at in a window.

A model may generate "hel" and "lo" where the tokenizer makes "hello" one token. The next turn comes as text, is
tokenized anew, and does not meet the generated blocks in the cache. What must not live here: blocks, threads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from itertools import accumulate

MARGIN_TOKENS = 4
"""Tokens at a window's start that may come out differently because the window cuts a word."""
CONTINUATION_FIRST, CONTINUATION_LAST = 0x80, 0xBF
"""Bytes that continue a character in UTF-8."""


def agreed_tokens(
    window: Sequence[int],
    *,
    context: int,
    is_start: bool,
    table: Sequence[bytes | None],
    specials: Collection[int],
    encode: Callable[[str], list[int]],
) -> int:
    """How many leading tokens of `window` the tokenizer makes of their text.

    Tokens at the end whose character is not complete count as agreed: the next window will show.

    Args:
        window: token ids.
        context: how many of them are only there as context, and count as agreed where nothing else is known.
        is_start: whether the text begins with the window.
        table: each token's bytes; every token of the window has some.
        specials: tokens at which the tokenizer cuts a text before anything else.
        encode: text to token ids.
    """
    start, is_exact = _start(window, context, specials, is_start=is_start)
    parts = [table[token] or b"" for token in window]
    if not is_exact:
        while start < len(window) and _continues(parts[start]):
            start += 1
    ends = list(accumulate(map(len, parts[start:])))
    text, is_whole = _text(b"".join(parts[start:]))
    limit = start + bisect_right(ends, len(text.encode()))
    # A character that is merely cut at the end speaks neither for its tokens nor against them.
    agreed = len(window) if is_whole else limit
    made = encode(text)
    place, other = start, 0
    if not is_exact:
        met = _meet(ends, [len(table[token] or b"") for token in made])
        if met is None:
            return min(context, agreed)
        place, other = start + met[0], met[1]
    while place < limit and other < len(made):
        if window[place] != made[other]:
            return place
        place, other = place + 1, other + 1
    return agreed


def _start(window: Sequence[int], context: int, specials: Collection[int], *, is_start: bool) -> tuple[int, bool]:
    """Where to begin, and whether the tokenizer would begin a word there too."""
    for place in range(context - 1, 0, -1):
        if window[place] in specials:
            return place, True
    return 0, is_start


def _continues(part: bytes) -> bool:
    return bool(part) and CONTINUATION_FIRST <= part[0] <= CONTINUATION_LAST


def _text(data: bytes) -> tuple[str, bool]:
    """The text up to the first byte that is none; True where only a character at the very end is not complete."""
    try:
        return data.decode(), True
    except UnicodeDecodeError as error:
        return data[: error.start].decode(), error.reason == "unexpected end of data"


def _meet(ends: Sequence[int], made_lengths: Sequence[int]) -> tuple[int, int] | None:
    """The first tokens of both that begin at the same byte, past the margin."""
    begins = {end: place + 1 for place, end in enumerate(ends)}
    for other, end in enumerate(accumulate(made_lengths)):
        place = begins.get(end)
        if place is not None and place >= MARGIN_TOKENS:
            return place, other + 1
    return None
