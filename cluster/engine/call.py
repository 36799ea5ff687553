"""One HTTP request inside the replica, as the engine's own client sees it through a context variable.

The layer makes it, the engine's client finds it: budget, tally, and the way to end the engine's work when the request
is over. What must not live here: vLLM, HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from cluster.core.resume import Delivered
from cluster.engine.budget import Budget
from cluster.engine.resume.draws import Draws
from cluster.engine.tally import Tally


class RequestOverError(Exception):
    """The request has ended while its handler went on; raised where that handler asks the engine for more."""


@dataclass(slots=True, kw_only=True)
class Call:
    """One request being served."""

    budget: Budget | None = None
    tally: Tally = field(default_factory=Tally)
    is_over: bool = False
    delivered: Delivered | None = None
    """What the client has already, where a cut stream is gone on with."""
    draws: Draws | None = None
    """What ids come from that its client gets; None: they are random."""
    grows_tokens: int | None = None
    """The output it may have in all, in a larger context where this one does not hold it; None: what it asks for."""
    is_short: bool = False
    """Whether this context does not."""
    is_full: bool = False
    """Whether that has ended a choice."""
    way: str = ""
    """How it is; known once the engine has been asked."""
    _waiting: dict[int, asyncio.Task[Any]] = field(default_factory=dict)

    def output_in(self, left_tokens: int) -> int | None:
        """The output of a request that grows, where the context has so many tokens left; None for any other request."""
        if self.grows_tokens is None:
            return None
        self.is_short = left_tokens < self.grows_tokens
        return min(left_tokens, self.grows_tokens)

    def end(self) -> None:
        """End the engine's work for this request, now.

        vLLM runs handlers in tasks of its own, which outlive the one that the layer can cancel: so whoever waits for
        the engine is cancelled, as vLLM itself does for a client that left.
        """
        self.is_over = True
        for task in self._waiting.values():
            task.cancel()

    async def watch(self, outputs: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """Pass on an engine's outputs while the request lasts, and close them after it.

        Raises:
            RequestOverError: the request is over.
        """
        key = id(outputs)
        try:
            while True:
                if self.is_over:
                    raise RequestOverError
                task = asyncio.current_task()
                if task is not None:
                    self._waiting[key] = task
                try:
                    output = await anext(outputs)
                except StopAsyncIteration:
                    return
                finally:
                    self._waiting.pop(key, None)
                yield output
        finally:
            await outputs.aclose()


CURRENT_CALL: ContextVar[Call | None] = ContextVar("CURRENT_CALL", default=None)
