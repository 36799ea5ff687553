"""What is noted of one request under way, for its spans at the end.

Every request of a gateway that traces has one, sampled or not, so that errors and slow ones can be told whole. What
must not live here: spans, keeping or leaving them.
"""

from __future__ import annotations

from typing import NamedTuple

from cluster.core.routing import Choice
from cluster.core.trace_context import TraceContext, traceparent

MOVED = "moved"
"""Why an attempt ended with which nothing was wrong."""
ATTEMPTS_MAX = 16
"""That are told of one request; more are counted in the access line."""
_SPAN_IDS = (1 << 64) - 1


class Attempt(NamedTuple):
    """One try at an endpoint."""

    begun_s: float
    """Monotonic."""
    choice: Choice


class Recording:
    """The story of one request, as far as its answer does not tell it."""

    __slots__ = ("attempts", "context", "decision_s", "ends", "parent", "prompt", "trace_id", "waits")

    def __init__(self, context: TraceContext, parent: TraceContext | None) -> None:
        self.context = context
        """Of the request's own span at this gateway."""
        self.parent = parent
        self.trace_id = f"{context.trace_id:032x}"
        """As logs and other tools write it."""
        self.attempts: list[Attempt] = []
        self.ends: list[tuple[float, str]] | None = None
        """Of the attempts that came to nothing, in their order: when, and why."""
        self.waits: list[tuple[float, float]] | None = None
        """In the gateway's own queue: from, to."""
        self.decision_s = 0.0
        """What the first decision took."""
        self.prompt = b""
        """The request's body, only where telemetry.traces.prompts asks for it."""

    def waited(self, begun_s: float, ended_s: float) -> None:
        """In the gateway's own queue, from the one to the other."""
        self.waits = self.waits or []
        if len(self.waits) < ATTEMPTS_MAX:
            self.waits.append((begun_s, ended_s))

    def attempted(self, now_s: float, choice: Choice) -> None:
        """The request goes to an endpoint."""
        if len(self.attempts) < ATTEMPTS_MAX:
            self.attempts.append(Attempt(now_s, choice))

    def failed(self, now_s: float, why: str) -> None:
        """The latest attempt came to nothing."""
        self.ends = self.ends or []
        if len(self.ends) < len(self.attempts):
            self.ends.append((now_s, why))

    def moved(self, now_s: float) -> None:
        """The stream of the attempt before the latest goes on with that one, though nothing was wrong with it."""
        self.failed(now_s, MOVED)

    def span_id(self, number: int) -> int:
        """The id of a further span of this request: counted from its own, so that a header can name one before it is.

        Attempts count from 1.
        """
        return (self.context.span_id + number) & _SPAN_IDS or 1

    def header_lines(self) -> str:
        """What the endpoint of the latest attempt gets to hear."""
        context = self.context
        told = traceparent(self.trace_id, self.span_id(len(self.attempts)), context.flags)
        line = f"traceparent: {told}\r\n"
        return f"{line}tracestate: {context.state}\r\n" if context.state else line
