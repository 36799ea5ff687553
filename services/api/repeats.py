"""Requests with an `Idempotency-Key`: the first one makes the answer, every other one joins it or gets it again.

The answer is made by a task of its own, which outlives its clients for `limits.idempotency_unread_s`: so a client whose
connection broke finds it under way, and one that never comes back costs no more than that. Only answers that clients
wanted are kept; whatever failed is made anew by the next request. What must not live here: records and bounds
(cluster/core/idempotency.py), where answers are kept (services/gateway/answers.py), how a request is served
(conduct.py).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence

from cluster.core.idempotency import BadKey, Claim, KeptAnswer, Slot, fingerprint_of, read_key, slot_of
from cluster.core.wire import HEADER_REPLAYED, HEADER_REQUEST_ID
from services.api.account import Account, Answering, Delivery
from services.api.books import Bookkeeper
from services.api.gateway import Gateway
from services.api.refusals import Refusal, bad_key, full, internal, key_reused, repeats_full
from services.api.run import Run, Shared
from services.api.tape import Tape, TapeRoom
from services.api.taping import Taping
from services.gateway.ask import Ask
from services.gateway.metric_labels import Repeated
from services.gateway.outcome import Served

logger = logging.getLogger(__name__)

POLL_S = 0.2
"""Between two looks whether another worker's answer is ready. What is kept there is small until it is the answer."""
CLOSE_S = 1.0
"""A gateway that ends gives its claims up, so that retries elsewhere need not wait for them to run out; no longer."""

Told = Sequence[tuple[str, str]]
Deliver = Callable[[Answering, Told], Delivery]
Serve = Callable[[Account, Ask, Callable[[Served, Told], Delivery]], Awaitable[Refusal | None]]


class Repeats:
    """Every answer that this worker makes under a key."""

    def __init__(self, gateway: Gateway, books: Bookkeeper, serve: Serve) -> None:
        """Nothing is made yet.

        Args:
            gateway: for its limits, and where answers are kept.
            books: told once what an answer cost.
            serve: finds who answers and lets the answer flow, as for a request without a key.
        """
        self._gateway = gateway
        self._books = books
        self._serve = serve
        self._runs: dict[Slot, Run] = {}
        self._numbers = itertools.count()
        self._room = TapeRoom(lambda: gateway.answers.room.total_bytes)

    async def serve(self, account: Account, ask: Ask, given: str, deliver: Deliver) -> Refusal | None:
        """As `Conduct.serve`, for a request with this header.

        Raises:
            asyncio.CancelledError: the client has left.
        """
        key = read_key(given)
        if isinstance(key, BadKey):
            return bad_key(key)
        slot = slot_of(ask.identity.tenant.name, key)
        fingerprint = fingerprint_of(ask.request.route, ask.request.body)
        run = self._runs.get(slot)
        is_first = run is None
        if run is None:
            limits = self._gateway.current.catalog.config.gateway.limits
            if len(self._runs) >= limits.concurrent_requests:
                return full(limits.concurrent_requests)
            run = self._begin(slot, fingerprint, account, ask)
        elif run.claim.fingerprint != fingerprint:
            return self._reused()
        elif not run.can_join:
            self._gateway.metrics.repeated(Repeated.ALONE)
            return await self._serve(account, ask, deliver)
        run.enter()
        try:
            begun = await run.begun()
            if isinstance(begun, Refusal):
                return begun
            await self._hand_over(account, run, begun, deliver, is_first=is_first)
        finally:
            run.leave(self._gateway.current.catalog.config.gateway.limits.idempotency_unread_s)
        return None

    async def follow(self) -> None:
        """Keep claims alive until cancelled."""
        await self._gateway.answers.follow()

    async def ended(self) -> None:
        """Wait until nothing is being made."""
        while tasks := self._tasks():
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """End whatever is being made, and give its claims up."""
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_S)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [run.task for run in self._runs.values() if run.task is not None]

    def _begin(self, slot: Slot, fingerprint: bytes, account: Account, ask: Ask) -> Run:
        run = Run(Claim(fingerprint=fingerprint, owner=f"{self._gateway.name}-{next(self._numbers)}"))
        # The cost is told with it, apart from what becomes of the client that asked first.
        paid = Account(account.request_id, account.route, account.started_s, account.api)
        paid.identity, paid.model, paid.limit_s = account.identity, account.model, account.limit_s
        self._runs[slot] = run
        run.task = asyncio.get_running_loop().create_task(self._run(slot, run, paid, ask))
        return run

    async def _run(self, slot: Slot, run: Run, paid: Account, ask: Ask) -> None:
        try:
            kept = await self._kept(slot, run)
            if kept is None:
                await self._make(slot, run, paid, ask)
            elif kept.fingerprint != run.claim.fingerprint or isinstance(kept, Claim):
                run.refuse(self._reused())
            elif not self._room.fits(len(kept.body)):
                run.refuse(repeats_full())
            else:
                tape = Tape(kept.status, kept.headers, self._room)
                tape.fill(kept.body)
                run.begin(tape, is_static=kept.is_static)
        except Exception:
            logger.exception("an answer under a key was not made", extra=paid.log_fields)
        finally:
            # First from here: who asks next must not join what failed.
            del self._runs[slot]
            run.close(internal())
            await self._gateway.answers.release(slot)

    async def _kept(self, slot: Slot, run: Run) -> KeptAnswer | Claim | None:
        """The answer, once another worker has made it; another request's claim on the key; None: it is ours to make."""
        while True:
            found = await self._gateway.answers.take(slot, run.claim)
            if not isinstance(found, Claim) or found.fingerprint != run.claim.fingerprint:
                return found
            await asyncio.sleep(POLL_S)

    async def _make(self, slot: Slot, run: Run, paid: Account, ask: Ask) -> None:
        taping: Taping | None = None
        metrics, answers = self._gateway.metrics, self._gateway.answers
        metrics.repeated(Repeated.FIRST if answers.is_shared or not answers.has_store else Repeated.ALONE)

        def tape(served: Served, told: Told) -> Taping:
            nonlocal taping
            taping = Taping(
                served.answer,
                ask.request.route,
                self._room,
                is_static=served.is_static,
                most_bytes=lambda: self._gateway.current.catalog.config.gateway.limits.idempotency_answer_bytes,
            )
            run.served, run.told = served, told
            run.begin(taping.tape, is_static=served.is_static)
            return taping

        try:
            refusal = await self._serve(paid, ask, tape)
        finally:
            self._books.paid(paid)
        if refusal is not None:
            run.refuse(refusal)
        if taping is None:
            return
        run.made()
        answer = taping.kept(run.claim.fingerprint)
        if answer is not None:
            metrics.repeated(Repeated.UNKEPT, await answers.put(slot, answer))
        elif not taping.tape.is_whole:
            metrics.repeated(Repeated.UNKEPT)

    async def _hand_over(self, account: Account, run: Run, shared: Shared, deliver: Deliver, *, is_first: bool) -> None:
        account.is_shared = True
        served = run.served if is_first else None
        now_s = self._gateway.clock()
        if served is not None:
            account.served(served, now_s)
            told = run.told
        else:
            self._gateway.metrics.repeated(Repeated.REPLAYED if run.served is None else Repeated.JOINED)
            account.repeated(shared.answer.status, now_s)
            told = ((HEADER_REQUEST_ID, account.request_id), (HEADER_REPLAYED, "true"))
        try:
            delivery = account.delivery = deliver(shared, told)
            delivery.start()
            if not delivery.is_over:
                await delivery.ended()
        finally:
            if served is not None:
                account.went_on(served)
            if account.delivery is not None:
                account.delivered(account.delivery)
            shared.answer.close()

    def _reused(self) -> Refusal:
        self._gateway.metrics.repeated(Repeated.REUSED)
        return key_reused()
