"""The gateway's waiting line, in simulated time.

The rules are the core's (cluster/core/admission): the fair queue, the drain rate that says when waiting is hopeless.
What is written anew is what services/gateway/waiting.py does with futures and timers, here with calls and the
simulation's clock: who waits how long, who is asked when a place may be free. What must not live here: routing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cluster.core.admission.drain_rate import DrainRate
from cluster.core.admission.fair_queue import FairQueue
from cluster.core.admission.ticket import Full, Ticket
from cluster.core.lease import PoolName
from cluster.simulator.cluster import GatewaySpec
from cluster.simulator.outcome import Fate
from cluster.simulator.router import Desk, Held

AGED_RATIO = 1 / 3
"""As services/gateway/waiting.py has it."""
POLL_S = 0.25
"""How often a gateway reads the leases (services/gateway/directory.py): then everybody in line is asked, and those
whose time is over are sent away. (Production sends them away every 0.1 s.)"""


@dataclass(slots=True, kw_only=True)
class _Waiter:
    number: int
    prefill_tokens: int
    since_s: float
    until_s: float


class Line:
    """All requests that wait at the gateway."""

    def __init__(
        self,
        desk: Desk,
        spec: GatewaySpec,
        *,
        attempt: Callable[[int], bool],
        refuse: Callable[[int, Fate], None],
    ) -> None:
        """An empty line.

        Args:
            desk: the clock.
            spec: its limits.
            attempt: routes a request again; whether it is gone from the line, sent or refused.
            refuse: ends a request that waited, or may not wait.
        """
        self._desk = desk
        self._spec = spec
        self._attempt = attempt
        self._refuse = refuse
        self._queue = FairQueue()
        self._drain = DrainRate()
        self._waiters: dict[Ticket, _Waiter] = {}
        self._is_pumping = False
        self._has_timer = False

    def __len__(self) -> int:
        return len(self._queue)

    def wait(self, number: int, ticket: Ticket, *, prefill_tokens: int, is_held: bool) -> None:
        """A request waits, or is refused at once.

        Args:
            number: the request.
            ticket: it, as the queue sees it.
            prefill_tokens: prompt tokens it will have computed.
            is_held: it waits for a pool that has no replica now, and may do so up to its deadline.
        """
        now_s = self._desk.now_s
        deadline = ticket.deadline
        if deadline is not None:
            wait_s = self._drain.wait_s(ticket.home, self._queue.ahead_of(ticket), now_s)
            if deadline.is_hopeless(now_s, wait_s):
                self._refuse(number, Fate.DEADLINE if deadline.is_over(now_s) else Fate.HOPELESS)
                return
        pushed = self._queue.push(ticket, capacity=self._spec.queued_requests if self._spec.queue_s > 0 else 0)
        if isinstance(pushed, Full):
            self._refuse(number, Fate.QUEUE_FULL)
            return
        self._drain.began(ticket.home, now_s)
        if pushed.displaced is not None:
            self._line_ends(pushed.displaced.home)
            self._refuse(self._waiters.pop(pushed.displaced).number, Fate.QUEUE_FULL)
        until_s = now_s + self._spec.queue_s
        if deadline is not None:
            until_s = deadline.at_s if is_held else min(until_s, deadline.at_s)
        self._waiters[ticket] = _Waiter(number=number, prefill_tokens=prefill_tokens, since_s=now_s, until_s=until_s)
        self._arm()

    def pump(self, pool: PoolName, slots: int | None = None) -> None:
        """Admit those who wait to places that came free in a pool; at most `slots`."""
        if not self._waiters or self._is_pumping:
            return
        self._is_pumping = True
        try:
            admitted = 0
            while (slots is None or admitted < slots) and self._step(pool):
                admitted += 1
        finally:
            self._is_pumping = False

    def held(self, pool: PoolName) -> Held:
        """What waits with this pool as its home."""
        waiters = [waiter for ticket, waiter in self._waiters.items() if ticket.home == pool]
        if not waiters:
            return Held()
        return Held(
            requests=len(waiters),
            oldest_s=self._desk.now_s - min(waiter.since_s for waiter in waiters),
            prefill_tokens=sum(waiter.prefill_tokens for waiter in waiters),
        )

    def _step(self, pool: PoolName) -> bool:
        now_s = self._desk.now_s
        ticket = self._queue.pop(
            pool,
            lambda head: self._attempt(self._waiters[head].number),
            now_s=now_s,
            aged_after_s=self._spec.queue_s * AGED_RATIO,
        )
        if ticket is None:
            return False
        self._drain.left(ticket.home, now_s)
        self._line_ends(ticket.home)
        del self._waiters[ticket]
        return True

    def _tick(self) -> None:
        self._has_timer = False
        now_s = self._desk.now_s
        for ticket, waiter in tuple(self._waiters.items()):
            if now_s >= waiter.until_s:
                del self._waiters[ticket]
                self._queue.remove(ticket)
                self._line_ends(ticket.home)
                is_late = ticket.deadline is not None and ticket.deadline.is_over(now_s)
                self._refuse(waiter.number, Fate.DEADLINE if is_late else Fate.QUEUE_TIME)
        for pool in sorted(self._queue.pools):
            self.pump(pool)
        self._arm()

    def _arm(self) -> None:
        if self._waiters and not self._has_timer:
            self._has_timer = True
            self._desk.call_at(self._desk.now_s + POLL_S, self._tick)

    def _line_ends(self, home: PoolName) -> None:
        if not self._queue.line(home):
            self._drain.ended(home, self._desk.now_s)
