"""soak: hours of everything at a modest rate; the report draws memory over time and how fast it grows.

What must not live here: reading memory (loadtest/client samples the metrics).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.plan import Session
from loadtest.scenarios.agents import Agents
from loadtest.scenarios.chat import TOKENS_MAX, Chat
from loadtest.scenarios.document import Document
from loadtest.scenarios.options import option
from loadtest.scenarios.scenario import Arrivals, Context, Options, Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak(Options):
    """Chats, documents and agents by chance."""

    document_share: float = option(0.1, "Of sessions, questions about documents.", low=0, high=0.5)
    agent_share: float = option(0.05, "Of sessions, agents of eight turns.", low=0, high=0.5)
    document_tokens: int = option(8_000, "Of a document, in tokens.", low=1, high=TOKENS_MAX)

    def sessions(self, due_s: Iterator[float], context: Context) -> Iterator[Session]:
        """Each is of one kind; each kind makes its own."""
        # One due time waits here at a time: the kind that is drawn takes it.
        waiting: list[float] = []
        dues = iter(waiting.pop, None)
        kinds = [kind.sessions(dues, context) for kind in self._kinds()]
        shares = (1 - self.document_share - self.agent_share, self.document_share, self.agent_share)
        for number, at_s in enumerate(due_s):
            waiting.append(at_s)
            yield next(context.rng("soak", number).choices(kinds, weights=shares)[0])

    def notes(self, context: Context) -> Sequence[str]:
        """Those of each kind."""
        return [note for kind in self._kinds() for note in kind.notes(context)]

    def _kinds(self) -> tuple[Options, ...]:
        return Chat(), Document(document_tokens=self.document_tokens), Agents(turns=8, system_tokens=1_000)


SOAK = Scenario(
    name="soak",
    sentence="Chats, documents and agents for hours: does memory grow, do errors come?",
    kind=Soak,
    arrivals=Arrivals(rate_per_s=2.0, duration_s=14_400.0),
)
