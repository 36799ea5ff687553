"""Streams of draining replicas go on elsewhere: when, and how many at once.

A stream moves only where somebody takes it at once; else it stays, and is tried again. So a drain loses nothing, and
takes as long as others need to take over. What must not live here: how one stream moves (resuming.py), who goes on
(succession.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from cluster.core.lease import Lease, ReplicaId, ReplicaState
from services.gateway.open_answers import Answer, OpenAnswers
from services.gateway.resuming import ResumableAnswer

STEP_S = 0.5
"""How often drains are looked for, and streams that stayed are tried again: a try without a place is a decision's cost,
a fifth of a millisecond."""
AT_ONCE = 4
"""Streams of one gateway process that look for another replica at the same time. Each is a prefill there, and delays
what runs: a whole replica's streams in one step would be felt by everybody."""


class Moves:
    """Looks for draining replicas, and has their streams leave.

    Args:
        answers: under way.
        leases: what replicas last said.
        after_s: how long a draining replica's streams stay, as configured now; None: to their end.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        answers: OpenAnswers,
        leases: Callable[[], Mapping[ReplicaId, Lease]],
        after_s: Callable[[], float | None],
        clock: Callable[[], float],
    ) -> None:
        self._answers = answers
        self._leases = leases
        self._after_s = after_s
        self._clock = clock
        self._since_s: dict[ReplicaId, float] = {}
        """When each draining replica was first seen to drain."""
        self._looking: set[asyncio.Task[None]] = set()
        self._due: deque[Answer] = deque()
        """What is still to be tried in this step."""

    async def follow(self) -> None:
        """One step after another, until cancelled."""
        while True:
            self.step()
            await asyncio.sleep(STEP_S)

    def step(self) -> None:
        """Take note of drains, and have every stream try once whose time has come, a few at the same time."""
        now_s = self._clock()
        self._since_s = {
            lease.replica_id: self._since_s.get(lease.replica_id, now_s)
            for lease in self._leases().values()
            if lease.state is ReplicaState.DRAINING
        }
        after_s = self._after_s()
        self._due.clear()
        if after_s is not None:
            over = [replica_id for replica_id, since_s in self._since_s.items() if now_s - since_s >= after_s]
            self._due.extend(answer for replica_id in over for answer in self._answers.of(replica_id))
            self._go_on()

    def _go_on(self) -> None:
        while self._due and len(self._looking) < AT_ONCE:
            answer = self._due.popleft()
            looking = answer.leave() if isinstance(answer, ResumableAnswer) else None
            if looking is not None:
                self._looking.add(looking)
                looking.add_done_callback(self._ended)

    def _ended(self, looking: asyncio.Task[None]) -> None:
        self._looking.discard(looking)
        self._go_on()
