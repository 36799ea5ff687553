"""What is asked: tenants with a document each, conversations about it, and the order in which their turns come.

Everything follows from a seed. What differs between two runs is a number of ten digits at the start of each document:
no run finds another's blocks, and all runs have the same lengths. What must not live here: tokens, clocks, requests.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

Message = dict[str, str]

_WORDS = """
time year people way day man thing woman life child world school state family student group country problem
hand part place case week company system program question work number night point home water room mother area
money story fact month lot right study book eye job word business issue side kind head house service friend
father power hour game line end member law car city name team minute idea body back parent face others level
office door health person art war history party result change morning reason research girl guy moment air
teacher force education
"""
WORDS = tuple(_WORDS.split())
"""Common words, one token each in most vocabularies."""
EDITION_DIGITS = 10
TEMPLATE_TOKENS = 12
"""What a template puts around a question and its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How much of what."""

    tenants: int = 6
    conversations: int = 2
    """Of each tenant."""
    turns: int = 4
    """Of each conversation."""
    document_words: int = 2_000
    """Of each tenant, at the start of all its prompts; about a token a word."""
    turn_words: int = 60
    """Of each question."""
    answer_tokens: int = 16
    """Of each answer, exactly."""

    @property
    def requests(self) -> int:
        """Turns of all conversations."""
        return self.tenants * self.conversations * self.turns

    @property
    def longest_tokens(self) -> int:
        """About what the longest prompt and its answer have."""
        return self.document_words + self.turns * self.turn_tokens

    @property
    def turn_tokens(self) -> int:
        """About what a turn adds."""
        return self.turn_words + self.answer_tokens + TEMPLATE_TOKENS

    @property
    def distinct_tokens(self) -> int:
        """About what a cache holds that everything is in: each document once, each turn once."""
        return self.tenants * self.document_words + self.requests * self.turn_tokens


@dataclass(slots=True)
class Conversation:
    """One conversation of a tenant, as far as it has come."""

    name: str
    tenant: str
    questions: tuple[str, ...]
    messages: list[Message] = field(default_factory=list)
    asked: int = 0

    def ask(self) -> list[Message]:
        """The messages of its next turn."""
        self.messages.append({"role": "user", "content": self.questions[self.asked]})
        self.asked += 1
        return list(self.messages)

    def answered(self, text: str) -> None:
        """What the model said becomes part of the next turn's prompt."""
        self.messages.append({"role": "assistant", "content": text})


def words(rng: random.Random, count: int) -> str:
    """So many words."""
    return " ".join(rng.choices(WORDS, k=count))


def document(rng: random.Random, count: int, *, edition: str) -> str:
    """A document of so many words that shares no beginning with that of another edition.

    Args:
        rng: draws the words.
        count: how many.
        edition: whose it is; any text.
    """
    digest = hashlib.sha256(edition.encode()).digest()
    number = int.from_bytes(digest[:8], "big") % 10**EDITION_DIGITS
    return f"Edition {number:0{EDITION_DIGITS}d}\n{words(rng, count)}"


def tenant_names(shape: Shape) -> tuple[str, ...]:
    """The tenants, by name."""
    return tuple(f"tenant-{number}" for number in range(1, shape.tenants + 1))


def conversations(shape: Shape, *, seed: int, run: str) -> list[Conversation]:
    """All conversations, before their first turn.

    Args:
        shape: how many, how long.
        seed: of every word; the same seed, the same words.
        run: runs of other names share no prefix with this one.
    """
    made = []
    for tenant in tenant_names(shape):
        rng = random.Random(f"{seed}:{tenant}")  # noqa: S311 - repeatable, nothing secret
        system = document(rng, shape.document_words, edition=f"{run}:{tenant}")
        for number in range(1, shape.conversations + 1):
            questions = tuple(words(rng, shape.turn_words) for _ in range(shape.turns))
            messages = [{"role": "system", "content": system}]
            made.append(Conversation(f"{tenant}/{number}", tenant, questions, messages))
    return made


def order(shape: Shape, *, seed: int) -> list[int]:
    """The place in `conversations` of each turn, in the order in which turns are asked.

    Shuffled: with turns in rotation, an even number of conversations would keep each on one of two replicas whatever
    the policy.
    """
    turns = [place for place in range(shape.tenants * shape.conversations) for _ in range(shape.turns)]
    random.Random(f"{seed}:order").shuffle(turns)  # noqa: S311 - as above
    return turns


class Schedule:
    """Hands out turns in order, to askers that work at the same time.

    A conversation has one turn under way at most. Until a tenant's first answer has begun its document is in nobody's
    cache, so that two requests at once would both compute it, whatever the policy: its other conversations wait.
    """

    def __init__(self, turns: Sequence[int], tenants: Sequence[str]) -> None:
        """Take the order of `order`, and the tenant of each conversation."""
        self._left = list(turns)
        self._tenants = tenants
        self._busy: set[int] = set()
        self._opened: set[str] = set()
        self._opening: set[str] = set()

    def __len__(self) -> int:
        return len(self._left)

    def take(self) -> int | None:
        """The conversation whose turn is next and may be asked now; None while those left have to wait."""
        for position, place in enumerate(self._left):
            tenant = self._tenants[place]
            if place not in self._busy and tenant not in self._opening:
                del self._left[position]
                self._busy.add(place)
                if tenant not in self._opened:
                    self._opening.add(tenant)
                return place
        return None

    def done(self, place: int) -> None:
        """A turn of this conversation has its whole answer."""
        tenant = self._tenants[place]
        self._busy.discard(place)
        self._opening.discard(tenant)
        self._opened.add(tenant)
