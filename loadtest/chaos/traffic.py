"""The steady mixed load: a request at a time, evenly spaced, whatever becomes of the others.

What must not live here: what is asked (kinds.py), judging.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from loadtest.chaos.answer import Answer
from loadtest.chaos.asking import NO_HEADERS, Asker
from loadtest.chaos.judge import parses
from loadtest.chaos.kinds import KINDS, Kind
from loadtest.chaos.target import ChaosError


async def undisturbed(asker: Asker, kinds: Sequence[Kind] = KINDS) -> dict[str, Answer]:
    """The answer of each kind from a cluster that nothing disturbs, asked twice.

    Raises:
        ChaosError: one fails, or two are not the same, so that nothing could be compared.
    """
    found: dict[str, Answer] = {}
    for kind in kinds:
        first, second = await asker.ask(kind), await asker.ask(kind)
        if first.end != "complete" or not first.ids:
            raise ChaosError(f"the undisturbed cluster does not answer {kind.name}: {first.end} {first.detail}")
        if kind.is_json and not parses(first.text):
            raise ChaosError(f"the undisturbed answer of {kind.name} is no JSON: {first.text[:200]!r}")
        if (first.ids, first.text, first.finish) != (second.ids, second.text, second.finish):
            raise ChaosError(f"two undisturbed answers of {kind.name} differ")
        found[kind.name] = first
    return found


class Traffic:
    """Open loop: how late an answer is does not delay the next request."""

    def __init__(
        self,
        asker: Asker,
        rate_per_s: float,
        kinds: Sequence[Kind] = KINDS,
        *,
        tries: int = 1,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        """Prepare.

        Args:
            asker: sends.
            rate_per_s: requests a second.
            kinds: asked in turn.
            tries: of each, as `Asker.ask`.
            headers: of each.
        """
        self._asker = asker
        self._period_s = 1 / rate_per_s
        self._kinds = kinds
        self._tries, self._headers = tries, headers
        self._tasks: list[asyncio.Task[Answer]] = []
        self._sending: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._sending = asyncio.create_task(self._send())

    def burst(self) -> None:
        """One request of each kind at once, beside the steady ones: so many are under way when something breaks."""
        for kind in self._kinds:
            self._ask(kind)

    @property
    def sent(self) -> int:
        """Requests so far."""
        return len(self._tasks)

    async def stop(self) -> list[Answer]:
        """Send no more; what came of all of them, once the last has ended."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        return list(await asyncio.gather(*self._tasks))

    def abandon(self) -> None:
        """Send no more, and leave what is under way."""
        for task in (*self._tasks, *([self._sending] if self._sending else [])):
            task.cancel()

    async def _send(self) -> None:
        due_s = time.monotonic()
        while True:
            self._ask(self._kinds[len(self._tasks) % len(self._kinds)])
            due_s += self._period_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    def _ask(self, kind: Kind) -> None:
        self._tasks.append(asyncio.create_task(self._asker.ask(kind, tries=self._tries, headers=self._headers)))
