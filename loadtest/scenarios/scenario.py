"""What a scenario is: a name, options, when its requests come by default, and the sessions it makes.

What must not live here: any of them.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from loadtest.plan import Session
from loadtest.scenarios.options import OptionSpec, read_settings, specs
from loadtest.text import Writer


class ArrivalKind(StrEnum):
    """How due times are spread; loadtest/client makes them."""

    POISSON = "poisson"
    BURSTS = "bursts"
    """Nothing for a while, then many at once."""
    RAMP = "ramp"
    """A rate that grows evenly."""
    TRACE = "trace"
    """The scenario's own times (`Scenario.due_s`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """What a scenario takes where nothing else is asked for."""

    kind: ArrivalKind = ArrivalKind.POISSON
    rate_per_s: float
    """Sessions a second, in the mean; a ramp's first rate."""
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
    """The largest pool's; prompt and output together fit in it."""
    writer: Writer
    salt: str = ""
    """Of words and of nothing else: runs of other salts have the same lengths and times, and share no prefix."""

    def rng(self, *names: object) -> random.Random:
        """Draws numbers; the same for a seed and these names."""
        return random.Random(":".join(map(str, (self.seed, *names))))  # noqa: S311 - repeatable, nothing secret

    def words(self, *names: object) -> random.Random:
        """Draws words; the same for a seed, a salt and these names."""
        return self.rng(self.salt, "words", *names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(ABC):
    """A scenario's options; a class for each scenario."""

    @abstractmethod
    def sessions(self, due_s: Iterator[float], context: Context) -> Iterator[Session]:
        """One session for each due time, in order, made when it is asked for; the end of `due_s` is the end.

        All of it follows from options, times and context, so that several processes make the same sessions.
        """

    def due_s(self, context: Context) -> Iterator[float] | None:  # noqa: ARG002 - for those that have some
        """Its own due times; None where it has none."""
        return None

    def notes(self, context: Context) -> Sequence[str]:  # noqa: ARG002 - for those that have some
        """What it leaves out or makes smaller because of the context, each a sentence."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario."""

    name: str
    sentence: str
    kind: type[Options]
    arrivals: Arrivals

    @property
    def options(self) -> tuple[OptionSpec, ...]:
        """What can be set."""
        return specs(self.kind)

    def read_options(self, settings: Iterable[str]) -> Options:
        """Its options, with what `key=value` texts set.

        Raises:
            SetupError: a key is unknown, a value out of its bounds, or values contradict each other.
        """
        return self.kind(**read_settings(self.name, self.kind, settings))

    def sessions(self, options: Options, due_s: Iterator[float], context: Context) -> Iterator[Session]:
        """What is sent; see `Options.sessions`."""
        return options.sessions(due_s, context)


CONTEXT_SLACK_TOKENS: int = 16
"""Left of a context: a re-tokenized answer may be some tokens longer than what was generated."""
LANGUAGES: tuple[str, ...] = ("english", "chinese", "both")
