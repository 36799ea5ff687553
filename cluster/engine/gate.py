"""The gate of a replica: whether it takes work, and what ends the work it has.

What must not live here: HTTP (layer.py), the judgement of an engine's health (cluster/core/liveness.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cluster.core import wire
from cluster.engine.drain_rate import DrainRate

DRAIN_RETRY_AFTER_S = 1
"""Another replica may take it at once; a draining or stalled one never will."""


@dataclass(slots=True, kw_only=True)
class Gate:
    """Counts what is in flight and knows why there may be no more of it."""

    engine_is_dead: Callable[[], bool]
    """What the engine's own client knows; it may know before the next look at the vitals."""
    max_requests: int
    """Running and waiting together; the next one is refused."""
    draining: bool = False
    in_flight: int = 0
    clock: Callable[[], float] = time.monotonic
    _reason: str | None = None
    _broken: asyncio.Event = field(default_factory=asyncio.Event)
    _rate: DrainRate = field(init=False)

    def __post_init__(self) -> None:
        """Start counting what finishes."""
        self._rate = DrainRate(self.clock)

    @contextlib.contextmanager
    def passage(self) -> Iterator[None]:
        """One request on its way through."""
        if self.in_flight == 0:
            self._rate.became_busy()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._rate.finished()

    def break_off(self, reason: str) -> None:
        """End everything in flight, for good."""
        self._reason = reason
        self._broken.set()

    @property
    def broken_reason(self) -> str | None:
        """Why nothing here can finish any more; None while the engine lives."""
        if self._reason is None and self.engine_is_dead():
            return "the engine core died"
        return self._reason

    async def broken(self) -> None:
        """Return when the replica has been given up."""
        await self._broken.wait()

    @property
    def refusal(self) -> str | None:
        """Why new work is refused now; None when it is welcome."""
        if self.broken_reason is not None:
            return wire.REFUSAL_STALLED
        if self.draining:
            return wire.REFUSAL_DRAINING
        return wire.REFUSAL_OVERLOAD if self.in_flight >= self.max_requests else None

    @property
    def retry_after_s(self) -> int:
        """When a refused request is worth another try, in seconds."""
        return self._rate.retry_after_s if self.refusal == wire.REFUSAL_OVERLOAD else DRAIN_RETRY_AFTER_S
