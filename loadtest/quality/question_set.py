"""The questions of a set: all that follow from a seed, a salt and what was asked for.

What must not live here: what a question of a kind is (kinds.py), asking.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from loadtest.quality.document import message
from loadtest.quality.kinds import HAS_DEPTH, riddle
from loadtest.quality.question import Language, Question, QuestionKind
from loadtest.scenarios import Context
from loadtest.scenarios.sizes import message_tokens, room_tokens
from loadtest.text import Style

STYLES = {Language.ENGLISH: Style.ENGLISH, Language.CHINESE: Style.CHINESE}
LENGTHS = (1_024, 2_048, 4_096, 8_192)
LENGTH_MIN = 400
"""In tokens: facts, question and template have up to 300, and a document has to be around them."""
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
OUTPUT_TOKENS = 32
"""An answer is a word or a number; a model that explains itself gets this far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOptions:
    """What a set has: each kind and language at each length, and at each depth or, without one, as many times."""

    lengths: tuple[int, ...] = LENGTHS
    """Of prompts, in tokens, the template included."""
    depths: tuple[float, ...] = DEPTHS
    kinds: tuple[QuestionKind, ...] = tuple(QuestionKind)
    languages: tuple[Language, ...] = tuple(Language)
    repeats: int = 1
    output_tokens: int = OUTPUT_TOKENS
    """The most of an answer."""


def fitted(options: SetOptions, context: Context) -> tuple[SetOptions, Sequence[str]]:
    """What can be asked, and what is left out, each a sentence."""
    room = room_tokens(context, options.output_tokens)
    lengths = tuple(length for length in options.lengths if LENGTH_MIN <= length <= room)
    languages = tuple(one for one in options.languages if STYLES[one] in context.writer.pieces)
    notes = []
    if left := [f"{length:,}" for length in options.lengths if length not in lengths]:
        notes.append(
            f"left out are lengths of {', '.join(left)} tokens: questions have {LENGTH_MIN:,} or more, and the largest "
            f"context, {context.context_tokens:,}, has room for {room:,}"
        )
    if left := [str(one) for one in options.languages if one not in languages]:
        notes.append(f"left out are questions in {', '.join(left)}: without the model's tokenizer there is no filler")
    return replace(options, lengths=lengths, languages=languages), notes


def make_set(options: SetOptions, context: Context) -> Iterator[Question]:
    """The questions, in order of their lengths; none shares its beginning with another.

    Args:
        options: that fit; see `fitted`.
        context: seed and salt; of other salts, kinds, names and places are the same, and filler is another.
    """
    for length, language, kind in product(options.lengths, options.languages, options.kinds):
        for place, number in product(range(len(options.depths)), range(options.repeats)):
            depth = options.depths[place] if kind in HAS_DEPTH else None
            where = place if depth is None else f"d{round(100 * depth)}"
            bare = Question(
                id=f"{kind}-{language}-{length}-{where}-{number}",
                kind=kind,
                language=language,
                prompt_tokens=length,
                depth=depth,
                text="",
                facts=(),
                right=(),
                wrong=(),
            )
            yield _written(bare, context)


def _written(bare: Question, context: Context) -> Question:
    """The question with its text and its answers, which follow from its id."""
    asked = riddle(bare.kind, bare.language, bare.depth or 0.0, context.rng("quality", bare.id))
    text = message(
        context.writer,
        partial(context.words, "quality", bare.id),
        facts=asked.facts,
        question=asked.question,
        tokens=message_tokens(bare.prompt_tokens, context.writer.wrapping),
        style=STYLES[bare.language],
    )
    ordered = sorted(asked.facts, key=lambda fact: fact.depth)
    return replace(
        bare, text=text, facts=tuple(fact.sentence for fact in ordered), right=asked.right, wrong=asked.wrong
    )
