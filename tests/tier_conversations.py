"""Conversations as several tenants have them, turn by turn, and what an engine without any cache answers to each.

What must not live here: the tier, engines, what is compared with what.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.tier_replica import BLOCK_TOKENS, Answer, Ask

SALTS = (None, "tenant-a", "tenant-b", "tenant-ab")
SYSTEM_PROMPTS = 3
PROMPT_BLOCKS_MAX = 25
OUTPUT_TOKENS_MAX = 24
LONG_OUTPUT_TOKENS = 140
"""More than a block, so that blocks of nothing but generated tokens are cached too."""
LONG_RATIO = 0.1
TOGETHER_MAX = 4


@dataclass(frozen=True, kw_only=True)
class Case:
    """One turn, and the right answer."""

    name: str
    ask: Ask
    tokens: list[int]


def cases(
    answer: Callable[[Sequence[Ask]], list[Answer]], chance: random.Random, *, conversations: int, turns: int
) -> Iterator[list[list[Case]]]:
    """Rounds of batches of cases: every conversation's next turn once a round, in an order of its own.

    Args:
        answer: an engine without any cache.
        chance: where everything random comes from.
        conversations: how many.
        turns: of each.
    """
    shared = [_words(chance, chance.randint(1, 6 * BLOCK_TOKENS)) for _ in range(SYSTEM_PROMPTS)]
    talks = {
        f"c{number}": (chance.choice(SALTS), chance.choice(shared) + _first(chance)) for number in range(conversations)
    }
    for turn in range(turns):
        order = list(talks)
        chance.shuffle(order)
        batches: list[list[Case]] = []
        while order:
            together = [order.pop() for _ in range(min(len(order), chance.randint(1, TOGETHER_MAX)))]
            asks = [Ask(ids=talks[name][1], salt=talks[name][0], output_tokens=_length(chance)) for name in together]
            answers = answer(asks)
            batches.append(
                [
                    Case(name=f"{name}.{turn}", ask=ask, tokens=said.tokens)
                    for name, ask, said in zip(together, asks, answers, strict=True)
                ]
            )
            for name, ask, said in zip(together, asks, answers, strict=True):
                more = _words(chance, chance.randint(1, 3 * BLOCK_TOKENS))
                ids = ask.ids + said.tokens + more
                talks[name] = (ask.salt, ids[: PROMPT_BLOCKS_MAX * BLOCK_TOKENS])
        yield batches


def _first(chance: random.Random) -> list[int]:
    # Most prompts are short and some are long, as they come.
    blocks = chance.choice((1, 2, 3, 5, 8, 14))
    return _words(chance, chance.randint(1, blocks * BLOCK_TOKENS))


def _length(chance: random.Random) -> int:
    return LONG_OUTPUT_TOKENS if chance.random() < LONG_RATIO else chance.randint(1, OUTPUT_TOKENS_MAX)


def _words(chance: random.Random, tokens: int) -> list[int]:
    return [chance.randrange(300, 7000) for _ in range(tokens)]
