"""A replica's model on its way to its node: tried again while its source is away, and told of to people.

Serve gives a deployment up for good when a few replicas in a row did not start, and then nothing but a new submission
starts it. An outage of a hub must not become that, so the waiting is done here, inside the start. What must not live
here: what may pass and what lasts (cluster/models says it with `SourceAwayError`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from cluster.core.errors import SourceAwayError
from cluster.engine.plan import ReplicaPlan
from cluster.models.progress import Progress
from cluster.tasks import end_tasks

log = logging.getLogger("longreach.engine")
FIRST_PAUSE_S = 5.0
MAX_PAUSE_S = 60.0
"""Pauses double up to this: a hub that is back is used within a minute, and one that is down is not besieged."""
LIMIT_S = 6 * 3600.0
"""Longer than the outages of hubs and networks that end by themselves; after it, Serve starts another replica."""
TELL_S = 10.0
"""How often people are told how far a download is."""


class Report(Protocol):
    """Takes words for `longreach status`."""

    async def __call__(self, detail: str, *, error: str = "") -> None:
        """Write them."""


async def settled(
    settle: Callable[[Progress], ReplicaPlan], report: Report, *, limit_s: float = LIMIT_S
) -> ReplicaPlan:
    """What `settle` makes, once its model's source lets it.

    Args:
        settle: brings the model and makes the plan; runs in a thread, again after each `SourceAwayError`.
        report: is told how far it is, and why it waits.
        limit_s: no further try is begun after this.

    Raises:
        SourceAwayError: the source was still away at the limit.
        ModelStoreError: the model cannot be had, as it is wanted or where it is wanted.
        SetupError: this node is not what the pool wants.
    """
    began_s = time.monotonic()
    pause_s = FIRST_PAUSE_S
    while True:
        stages = _Stages()
        teller = asyncio.create_task(stages.tell(report))
        try:
            return await asyncio.to_thread(settle, stages.note)
        except SourceAwayError as error:
            spent_s = time.monotonic() - began_s
            if spent_s + pause_s > limit_s:
                raise
            why = str(error)
        finally:
            # Awaited, so that no late word of a download goes over what is said next.
            await end_tasks([teller])
        log.warning("the model's source is away for %.0f s, next try in %.0f s: %s", spent_s, pause_s, why)
        detail = f"waiting for the model's source for {spent_s:.0f} s, next try in {pause_s:.0f} s"
        await report(detail, error=why)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


class _Stages:
    """How far a pull is: noted in its thread, told in the event loop."""

    def __init__(self) -> None:
        self._words = ""

    def note(self, stage: str, done_bytes: int, total_bytes: int | None) -> None:
        """As `Progress`."""
        far = f" {done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB" if total_bytes else ""
        self._words = f"model: {stage}{far}"

    async def tell(self, report: Report) -> None:
        """Report what has changed, at most every `TELL_S`, until cancelled."""
        told = ""
        while True:
            await asyncio.sleep(TELL_S)
            if self._words != told:
                told = self._words
                await report(told)
