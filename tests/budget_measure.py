"""Measure the context budget on the mixed set: `python -m tests.budget_measure FOLDER [--prompts N] [--chinese FILE]`.

FOLDER holds a model's tokenizer.json and chat template. Prompts live as at a gateway: counted with three pools' limits,
then taught with the true length, as a replica reports it. What must not live here: assertions.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer

from cluster.core.prompt import Conversation, CountKind
from services.gateway.tokens import PromptCounter
from tests.prompt_mix import PromptMix

POOLS_TOKENS = (4_096, 32_768, 262_144)
OUTPUT_TOKENS = 1_024
BOUNDARIES = tuple(limit - OUTPUT_TOKENS for limit in POOLS_TOKENS)


@dataclass(slots=True)
class Tally:
    """What became of the prompts of one kind."""

    prompts: int = 0
    by: Counter[str] = field(default_factory=Counter)
    """How the length was told: bound, interval, sample, tokenized."""
    missed: int = 0
    """The bound or interval did not hold the true length."""
    misplaced: int = 0
    """And so the request would have gone to the wrong pool first."""


async def measure(
    folder: Path, mix: PromptMix, phases: Iterable[int], *, teach: bool = True
) -> AsyncIterator[dict[str, Tally]]:
    """Let prompts pass, `phases` of them at a time; one table for each phase, by kind of prompt."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    counter = PromptCounter()
    counter.use({"m": folder})
    await counter.ready()
    for prompts in phases:
        table: dict[str, Tally] = {}
        for _ in range(prompts):
            made = mix.next()
            chat = Conversation(messages=({"role": "user", "content": made.text},))
            counted, how = counter.quick("m", chat, BOUNDARIES), "interval"
            if counted is None:
                counted, how = await counter.exact("m", chat, BOUNDARIES), "sample"
            if counted.kind is not CountKind.ABOUT:
                how = "bound" if counted.kind is CountKind.AT_MOST else "tokenized"
            true = counted.tokens
            if counted.kind is not CountKind.EXACT:
                counting = await counter._load(folder)
                assert counting is not None
                rendered = counting.rendered(chat)
                assert rendered is not None
                true = len(tokenizer.encode_batch_fast([rendered.texts[0]], add_special_tokens=False)[0])
            low, high = counted.low_tokens or 0, counted.high_tokens or counted.tokens
            for kind in (made.kind, "all"):
                tally = table.setdefault(kind, Tally())
                tally.prompts += 1
                tally.by[how] += 1
                tally.missed += not low <= true <= high
                tally.misplaced += _place(true) != _place(counted.tokens)
            if teach:
                counter.learn("m", counted, true)
        yield table
    counter.close()


def _place(tokens: int) -> int:
    return sum(tokens > boundary for boundary in BOUNDARIES)


def printed(table: dict[str, Tally]) -> str:
    """The table for people."""
    lines = [
        "| prompts | n | bound | interval | sample | tokenized | covered | wrong pool first |",
        "|---|" + "---|" * 7,
    ]
    for kind in sorted(table, key=lambda kind: (kind == "all", kind)):
        tally = table[kind]
        shares = [f"{tally.by[how] / tally.prompts:.1%}" for how in ("bound", "interval", "sample", "tokenized")]
        covered = f"{1 - tally.missed / tally.prompts:.2%}"
        lines.append(f"| {kind} | {tally.prompts} | {' | '.join(shares)} | {covered} | {tally.misplaced} |")
    return "\n".join(lines)


def main() -> None:
    """Print one table for each phase of a gateway's life."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prompts", type=int, default=5_000, help="fresh prompts, after the gateway has learned")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chinese", type=Path, help="a UTF-8 file of real Chinese, instead of made sentences")
    options = parser.parse_args()
    asyncio.run(_print(options.folder, PromptMix(options.seed, options.chinese), options.prompts))


async def _print(folder: Path, mix: PromptMix, prompts: int) -> None:
    phases = (200, 800, 1_000, prompts)
    at = 0
    async for table in measure(folder, mix, phases):
        sys.stdout.write(f"\nthe next {phases[at]} prompts\n\n{printed(table)}\n")
        sys.stdout.flush()
        at += 1


if __name__ == "__main__":
    main()
