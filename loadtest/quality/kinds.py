"""What each kind of question puts into a document, and asks.

What must not live here: filler (document.py), words (phrases.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from loadtest.quality.phrases import JOINERS, PHRASES, Phrases
from loadtest.quality.question import Fact, Language, QuestionKind

CODES = range(10_000, 100_000)
APART = 0.5
"""Between the two facts of a join: half of the document, so that no one part of it has both."""
ASTRAY = 0.25
"""From a fact of a join to the one that leads astray."""
COUNTS = range(2, 6)
"""How often a thing occurs: more is a test of counting, not of finding."""
SPREAD_STEPS = 20
"""Places of facts that are all over the document: a twentieth of it apart at least."""
EVENTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Riddle:
    """A question before it has a document."""

    facts: tuple[Fact, ...]
    question: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]


def riddle(kind: QuestionKind, language: Language, depth: float, rng: random.Random) -> Riddle:
    """A question of this kind.

    Args:
        kind: what is asked for.
        language: of its words.
        depth: of the fact that is asked for, 0 to 1; questions whose facts are all over the document have none.
        rng: draws names, numbers and places.
    """
    return MAKERS[kind](PHRASES[language], language, depth, rng)


def _needle(phrases: Phrases, _: Language, depth: float, rng: random.Random) -> Riddle:
    place, code = rng.choice(phrases.places), str(rng.choice(CODES))
    return Riddle(
        facts=(Fact(sentence=phrases.needle.format(place=place, code=code), depth=depth),),
        question=phrases.needle_question.format(place=place),
        right=(code,),
        wrong=(),
    )


def _join(phrases: Phrases, _: Language, depth: float, rng: random.Random) -> Riddle:
    place, other_place = rng.sample(phrases.places, 2)
    person, other_person = rng.sample(phrases.people, 2)
    city, other_city = rng.sample(phrases.cities, 2)
    away = depth + APART if depth <= 1 - APART else depth - APART
    astray = depth + ASTRAY if depth <= APART else depth - ASTRAY
    other_away = away + ASTRAY if away <= APART else away - ASTRAY
    facts = (
        Fact(sentence=phrases.holder.format(place=place, person=person), depth=depth),
        Fact(sentence=phrases.home.format(person=person, city=city), depth=away),
        Fact(sentence=phrases.holder.format(place=other_place, person=other_person), depth=astray),
        Fact(sentence=phrases.home.format(person=other_person, city=other_city), depth=other_away),
    )
    return Riddle(facts=facts, question=phrases.join_question.format(place=place), right=(city,), wrong=(other_city,))


def _order(phrases: Phrases, language: Language, _: float, rng: random.Random) -> Riddle:
    events = rng.sample(phrases.events, EVENTS)
    asked = rng.randrange(EVENTS)
    facts = [
        Fact(sentence=phrases.event.format(event=event), depth=depth)
        for event, depth in zip(events, _spread(rng, EVENTS), strict=True)
    ]
    options = JOINERS[language].join(sorted(events))
    return Riddle(
        facts=tuple(facts),
        question=phrases.order_question.format(options=options, ordinal=phrases.ordinals[asked]),
        right=(events[asked],),
        wrong=tuple(event for event in events if event != events[asked]),
    )


def _count(phrases: Phrases, _: Language, __: float, rng: random.Random) -> Riddle:
    place, times = rng.choice(phrases.places), rng.choice(COUNTS)
    return Riddle(
        facts=tuple(Fact(sentence=phrases.ring.format(place=place), depth=depth) for depth in _spread(rng, times)),
        question=phrases.count_question.format(place=place),
        right=phrases.numbers[times],
        wrong=tuple(form for number, forms in phrases.numbers.items() if number != times for form in forms),
    )


def _spread(rng: random.Random, count: int) -> list[float]:
    """So many depths, in order, none too near another."""
    return [place / SPREAD_STEPS for place in sorted(rng.sample(range(SPREAD_STEPS + 1), count))]


MAKERS: Mapping[QuestionKind, Callable[[Phrases, Language, float, random.Random], Riddle]] = {
    QuestionKind.NEEDLE: _needle,
    QuestionKind.JOIN: _join,
    QuestionKind.ORDER: _order,
    QuestionKind.COUNT: _count,
}
HAS_DEPTH = frozenset({QuestionKind.NEEDLE, QuestionKind.JOIN})
"""The others' facts are all over the document."""
