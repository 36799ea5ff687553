"""Streams of draining replicas go on elsewhere: when, and how many at once.

A stream moves only where somebody takes it at once; else it stays, and is tried again. So a drain loses nothing, and
takes as long as others need to take over. A try that asked somebody costs a pause here and work there: after one in
vain a stream waits for longer each time, and others come first. What must not live here: how one stream moves
(resuming.py), who goes on (succession.py).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial

from cluster.core.lease import Lease, ReplicaId, ReplicaState
from services.gateway.open_answers import Answer, OpenAnswers
from services.gateway.resuming import ResumableAnswer

STEP_S = 0.5
"""How often drains are looked for, and streams that stayed are tried again: a try without a place is a decision's cost,
a fifth of a millisecond."""
AT_ONCE = 4
"""Streams of one gateway process that look for another replica at the same time. Each is a prefill there, and delays
what runs: a whole replica's streams in one step would be felt by everybody."""
WAITS_S = (4.0, 8.0, 16.0, 32.0, 60.0)
"""How long a stream stays after a try that asked somebody in vain, by how many did so far. A lease lives for 4 s: by
then a replica that was full or gone is known to be. At most a minute, since another replica may have started."""


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
        self._looking: set[Answer] = set()
        self._again_s: dict[Answer, float] = {}
        """From when each stream may look again that has looked and stayed."""
        self._due: deque[ResumableAnswer] = deque()
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
        over = [] if after_s is None else [one for one, since_s in self._since_s.items() if now_s - since_s >= after_s]
        answers = [answer for replica_id in over for answer in self._answers.of(replica_id)]
        self._again_s = {answer: self._again_s[answer] for answer in answers if answer in self._again_s}
        due = [answer for answer in answers if isinstance(answer, ResumableAnswer) and self._is_due(answer, now_s)]
        # Whoever looks long must not keep others from looking once.
        self._due.extend(sorted(due, key=lambda answer: self._again_s.get(answer, -math.inf)))
        self._go_on()

    def _is_due(self, answer: ResumableAnswer, now_s: float) -> bool:
        return answer not in self._looking and now_s >= self._again_s.get(answer, -math.inf)

    def _go_on(self) -> None:
        while self._due and len(self._looking) < AT_ONCE:
            answer = self._due.popleft()
            looking = answer.leave()
            if looking is not None:
                self._looking.add(answer)
                looking.add_done_callback(partial(self._ended, answer, answer.asked_in_vain))

    def _ended(self, answer: ResumableAnswer, asked_before: int, _looking: asyncio.Task[None]) -> None:
        self._looking.discard(answer)
        asked = answer.asked_in_vain
        wait_s = WAITS_S[min(asked, len(WAITS_S)) - 1] if asked > asked_before else 0.0
        self._again_s[answer] = self._clock() + wait_s
        self._go_on()
