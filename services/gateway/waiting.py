"""Where requests wait for a free replica: one future for each that has to, none for the others.

What lives here: the adapter between the pure queue (cluster/core/admission) and asyncio. Dispatch calls `wait` when
routing finds every fitting pool at capacity. Whoever learns that a place came free calls `pump`: requests are then
asked in the queue's order to route themselves again, there and then, and those that find a place claim it before
anybody else runs. So a wake-up admits as many as there is room for, and no herd runs for one place. What must not live
here: the order, routing, sentences for clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from cluster.config import LimitsSection
from cluster.core.admission.drain_rate import DrainRate
from cluster.core.admission.fair_queue import FairQueue
from cluster.core.admission.hold import Hold
from cluster.core.admission.ticket import Full, Ticket
from cluster.core.lease import PoolName
from cluster.core.tenant import Priority

SWEEP_S = 0.1
"""How often waiting requests are looked through for those whose time is over: so much later they may hear of it. One
timer for all, and only while somebody waits; a thousand requests take about a tenth of a millisecond."""
RECHECK_S = 1.0
"""How often the first in line are tried without a wake-up: the longest that a place nobody told of stays empty."""
AGED_RATIO = 1 / 3
"""Share of the longest wait (`limits.queue_s`) after which a lower class counts as aged: two thirds of its time are
left to get a turn."""

G = TypeVar("G")
"""What a request claims when it finds a place: dispatch's own affair, and never None."""


class Expiry(StrEnum):
    """Why a request waits no longer."""

    QUEUE_TIME = "queue-time"
    """It waited `limits.queue_s`."""
    DEADLINE = "deadline"
    HOPELESS = "hopeless"
    """Refused at once: the line would take longer than its deadline allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted(Generic[G]):
    """It has its place, claimed already."""

    grant: G
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFull:
    """It may not wait, or had to give its place to another (`is_displaced`)."""

    retry_after_s: int
    is_displaced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """Its time was over before a place was free."""

    cause: Expiry
    waited_s: float
    retry_after_s: int


@dataclass(slots=True, kw_only=True)
class WaitCounts:
    """What happened in the room so far; for metrics to read."""

    admitted: int = 0
    full: int = 0
    displaced: int = 0
    cancelled: int = 0
    queue_time: int = 0
    deadline: int = 0
    hopeless: int = 0
    wait_s_sum: float = 0.0
    """Of those admitted."""
    wait_s_max: float = 0.0


@dataclass(slots=True, kw_only=True)
class Standing:
    """The line of one pool."""

    requests: int = 0
    prefill_tokens: int = 0
    oldest_wait_s: float = 0.0


@dataclass(slots=True, kw_only=True, eq=False)
class _Waiter(Generic[G]):
    future: asyncio.Future[Admitted[G] | QueueFull | Expired]
    attempt: Callable[[], G | None]
    since_s: float
    until_s: float


class WaitingRoom:
    """The one queue of a gateway process.

    Args:
        clock: monotonic seconds.
        limits: the limits as configured now; they may change while requests wait.
    """

    def __init__(self, *, clock: Callable[[], float], limits: Callable[[], LimitsSection]) -> None:
        self.counts = WaitCounts()
        self._clock = clock
        self._limits = limits
        self._queue = FairQueue()
        self._drain = DrainRate()
        self._waiters: dict[Ticket, _Waiter[Any]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rechecked_s = clock()
        self._is_pumping = False

    def __len__(self) -> int:
        return len(self._queue)

    def length(self, priority: Priority) -> int:
        """How many of a class wait."""
        return self._queue.length(priority)

    def standing(self) -> dict[PoolName, Standing]:
        """Who waits, by the pool in whose line; in the order of the whole queue's length."""
        lines: dict[PoolName, Standing] = {}
        now_s = self._clock()
        for ticket, waiter in self._waiters.items():
            line = lines.setdefault(ticket.home, Standing())
            line.requests += 1
            line.prefill_tokens += ticket.prefill_tokens
            line.oldest_wait_s = max(line.oldest_wait_s, now_s - waiter.since_s)
        return lines

    async def wait(
        self,
        ticket: Ticket,
        *,
        attempt: Callable[[], G | None],
        give_back: Callable[[G], None],
        hold: Hold | None = None,
        waited_s: float = 0.0,
    ) -> Admitted[G] | QueueFull | Expired:
        """Wait until `ticket` is admitted, or learn why it is not.

        Args:
            ticket: what waits; a new one for each call.
            attempt: routes the request again and claims a place; None when there still is none. It runs inside `pump`,
                must not block and must not raise on purpose; what it raises is raised here.
            give_back: undoes a claim whose request was cancelled before it could use it.
            hold: set where no replica is there at all and one is to start: its limit is then in force instead of
                `limits.queue_s`, and the line's own speed says nothing.
            waited_s: of the longest wait, what is over already, where it had its turn before.
        """
        now_s = self._clock()
        limits = self._limits()
        limit_s = (limits.queue_s if hold is None else hold.limit_s) - waited_s
        if limit_s <= 0:
            self.counts.full += 1
            return QueueFull(retry_after_s=self._retry_after_s(ticket, now_s))
        refusal = self._enqueue(ticket, now_s, places_for(ticket.priority, limits), hold)
        if refusal is not None:
            return refusal
        until_s = now_s + limit_s
        if ticket.deadline is not None:
            until_s = min(until_s, ticket.deadline.at_s)
        waiter = _Waiter[G](
            future=asyncio.get_running_loop().create_future(), attempt=attempt, since_s=now_s, until_s=until_s
        )
        self._waiters[ticket] = waiter
        self._arm()
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self.counts.cancelled += 1
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                result = waiter.future.result()
                if isinstance(result, Admitted):
                    give_back(result.grant)
            raise
        finally:
            self._drop(ticket)

    def pump(self, pool: PoolName, slots: int | None = None) -> int:
        """Admit waiting requests to places that came free in `pool`; cheap when nobody waits.

        Args:
            pool: where.
            slots: how many places came free: no more are admitted. None: as many as find one.

        Returns:
            How many were admitted.
        """
        admitted = 0
        # An attempt that frees a place itself gets here again: those places wait for the next call.
        if not self._waiters or self._is_pumping:
            return admitted
        self._is_pumping = True
        try:
            while (slots is None or admitted < slots) and (step := self._step(pool)) is not None:
                admitted += step
        finally:
            self._is_pumping = False
        return admitted

    def pump_all(self) -> int:
        """`pump` every pool that anybody waits for: after new leases, or a new configuration."""
        return sum(self.pump(pool) for pool in sorted(self._queue.pools))

    def sweep(self) -> None:
        """Send away those whose time is over, and try the first in line now and then; the room's timer calls it."""
        now_s = self._clock()
        for ticket, waiter in tuple(self._waiters.items()):
            if now_s >= waiter.until_s and not waiter.future.done():
                self._drop(ticket)
                is_late = ticket.deadline is not None and ticket.deadline.is_over(now_s)
                expired = self._expired(ticket, Expiry.DEADLINE if is_late else Expiry.QUEUE_TIME, now_s, waiter)
                waiter.future.set_result(expired)
        if now_s - self._rechecked_s >= RECHECK_S:
            self._rechecked_s = now_s
            self.pump_all()

    def _enqueue(self, ticket: Ticket, now_s: float, capacity: int, hold: Hold | None) -> QueueFull | Expired | None:
        """Put `ticket` in the queue; why it may not wait, if so."""
        if ticket.deadline is not None:
            if ticket.deadline.is_over(now_s):
                return self._expired(ticket, Expiry.DEADLINE, now_s)
            ahead = self._queue.ahead_of(ticket)
            wait_s = self._drain.wait_s(ticket.home, ahead, now_s) if hold is None else hold.starts_in_s
            if ticket.deadline.is_hopeless(now_s, wait_s):
                return self._expired(ticket, Expiry.HOPELESS, now_s)
        pushed = self._queue.push(ticket, capacity=capacity)
        if isinstance(pushed, Full):
            self.counts.full += 1
            return QueueFull(retry_after_s=self._retry_after_s(ticket, now_s))
        self._drain.began(ticket.home, now_s)
        if pushed.displaced is not None:
            self._displace(pushed.displaced, now_s)
        return None

    def _displace(self, ticket: Ticket, now_s: float) -> None:
        """The queue has let go of `ticket` already."""
        self._line_ends(ticket.home, now_s)
        waiter = self._waiters.pop(ticket)
        if not waiter.future.done():
            self.counts.displaced += 1
            waiter.future.set_result(QueueFull(retry_after_s=self._retry_after_s(ticket, now_s), is_displaced=True))

    def _step(self, pool: PoolName) -> int | None:
        """Admit the next for `pool`: 1; 0 when only requests that are gone were cleared away; None: nobody can go."""
        gone: list[Ticket] = []
        grants: list[Any] = []

        def can_run(ticket: Ticket) -> bool:
            waiter = self._waiters[ticket]
            # A request is cancelled some moments before its coroutine runs and leaves.
            if waiter.future.done():
                gone.append(ticket)
                return False
            try:
                grant = waiter.attempt()
            except Exception as error:  # noqa: BLE001 - it is the waiting request's fault to report, not the caller's
                waiter.future.set_exception(error)
                gone.append(ticket)
                return False
            if grant is not None:
                grants.append(grant)
            return grant is not None

        now_s = self._clock()
        admitted = self._queue.pop(pool, can_run, now_s=now_s, aged_after_s=self._limits().queue_s * AGED_RATIO)
        for ticket in gone:
            self._drop(ticket)
        if admitted is None:
            return 0 if gone else None
        self._admit(admitted, grants[0], now_s)
        return 1

    def _admit(self, ticket: Ticket, grant: Any, now_s: float) -> None:
        self._drain.left(ticket.home, now_s)
        self._line_ends(ticket.home, now_s)
        waiter = self._waiters.pop(ticket)
        waited_s = now_s - waiter.since_s
        self.counts.admitted += 1
        self.counts.wait_s_sum += waited_s
        self.counts.wait_s_max = max(self.counts.wait_s_max, waited_s)
        waiter.future.set_result(Admitted(grant=grant, waited_s=waited_s))

    def _drop(self, ticket: Ticket) -> None:
        """Let go of a ticket that was not admitted, if it is still here."""
        self._waiters.pop(ticket, None)
        if self._queue.remove(ticket):
            self._line_ends(ticket.home, self._clock())

    def _line_ends(self, home: PoolName, now_s: float) -> None:
        if not self._queue.line(home):
            self._drain.ended(home, now_s)

    def _expired(self, ticket: Ticket, cause: Expiry, now_s: float, waiter: _Waiter[Any] | None = None) -> Expired:
        match cause:
            case Expiry.QUEUE_TIME:
                self.counts.queue_time += 1
            case Expiry.DEADLINE:
                self.counts.deadline += 1
            case Expiry.HOPELESS:
                self.counts.hopeless += 1
        waited_s = now_s - waiter.since_s if waiter is not None else 0.0
        return Expired(cause=cause, waited_s=waited_s, retry_after_s=self._retry_after_s(ticket, now_s))

    def _retry_after_s(self, ticket: Ticket, now_s: float) -> int:
        return self._drain.retry_after_s(ticket.home, self._queue.ahead_of(ticket), now_s)

    def _arm(self) -> None:
        if self._timer is None and self._waiters:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self.sweep()
        finally:
            self._arm()


def places_for(priority: Priority, limits: LimitsSection) -> int:
    """Places of the queue that requests of a class may use: lower ones never take those of the highest."""
    extra = limits.queued_high_requests if priority is Priority.HIGH else 0
    return limits.queued_requests + extra
