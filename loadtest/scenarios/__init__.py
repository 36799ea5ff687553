"""What load tests send: scenarios by name.

What must not live here: when requests are due and how they are sent (loadtest/client), what came of them
(loadtest/report).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cluster.core.errors import SetupError
from loadtest.plan import Session, Turn
from loadtest.text import Writer


class ArrivalKind(StrEnum):
    """How due times are spread; loadtest/client makes them."""

    POISSON = "poisson"
    BURSTS = "bursts"
    RAMP = "ramp"
    TRACE = "trace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """What a scenario takes where nothing else is asked for."""

    kind: ArrivalKind = ArrivalKind.POISSON
    rate_per_s: float
    to_rate_per_s: float | None = None
    """A ramp's last rate."""
    idle_s: float = 0.0
    """Of bursts: from one to the next."""
    duration_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a run knows when it makes its sessions."""

    seed: int
    context_tokens: int
    writer: Writer
    salt: str = ""
    """Of words and of nothing else: runs of other salts have the same lengths and times, and share no prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `short-chat`."""

    prompt_tokens: int = 200
    output_tokens: int = 100
    turns: int = 1

    def due_s(self, context: Context) -> Iterator[float] | None:  # noqa: ARG002 - it has none
        """Its own due times; None where it has none."""
        return None

    def notes(self, context: Context) -> Sequence[str]:  # noqa: ARG002 - it has none
        """What it leaves out or makes smaller because of the context, each a sentence."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario."""

    name: str
    sentence: str
    arrivals: Arrivals

    def read_options(self, settings: Iterable[str]) -> Options:
        """Its options, with what `key=value` texts set.

        Raises:
            SetupError: a key is unknown, or a value is no number.
        """
        try:
            return Options(**{key: int(value) for key, _, value in (one.partition("=") for one in settings)})
        except (TypeError, ValueError) as error:
            raise SetupError(f"--set: {error}", "known: prompt_tokens, output_tokens, turns") from error

    def sessions(self, options: Options, due_s: Iterator[float], context: Context) -> Iterator[Session]:
        """One session for each due time, in order, made when it is asked for."""
        for number, at_s in enumerate(due_s):
            words = random.Random(f"{context.seed}:{context.salt}:{number}")  # noqa: S311 - repeatable
            texts = [context.writer.text(words, options.prompt_tokens) for _ in range(options.turns)]
            turns = tuple(Turn(text=text, output_tokens=options.output_tokens) for text in texts)
            yield Session(at_s=at_s, turns=turns, label="chat")


SHORT_CHAT = Scenario(
    name="short-chat",
    sentence="Short questions, nothing shared between them.",
    arrivals=Arrivals(rate_per_s=4.0),
)


def list_scenarios() -> tuple[Scenario, ...]:
    """In the order in which they are listed."""
    return (SHORT_CHAT,)


def find_scenario(name: str) -> Scenario:
    """The scenario of this name.

    Raises:
        SetupError: there is none.
    """
    for scenario in list_scenarios():
        if scenario.name == name:
            return scenario
    raise SetupError(f"no scenario {name!r}", f"known: {', '.join(one.name for one in list_scenarios())}")
