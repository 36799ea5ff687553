"""Blocks between memory and Redis, in threads of their own: the scheduler only hands jobs over and takes results.

Every job ends exactly once, in bounded time: a load by its deadline, a store that finds the queue full or Redis away at
once and unstored. A job's memory is not touched after its result is there. What must not live here: vLLM.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from cluster.core.routing.breaker import BreakerState
from cluster.core.tier.breaker import TierBreaker
from cluster.engine.tier.connection import Connection, RedisServer, TierConnectionError, encode
from cluster.engine.tier.exchange import load_batch, store_batch
from cluster.engine.tier.jobs import BATCH_KEYS, Batch, Counts, Finished, Job, Kind

log = logging.getLogger("longreach.tier")
LOAD_THREADS = 2
"""Receiving and checking a value each take about as long; two threads do both at once."""
STORE_WAIT_S = 2.0
"""For a batch of stores, before Redis counts as away. Nobody waits for it but the memory it holds."""
FULL_PAUSE_S = 5.0
"""After Redis said that it is full, which with an eviction policy it never says."""
IDLE_WAIT_S = 1.0
"""How often the store thread looks whether a trial is due, when it has nothing to do."""
JOIN_WAIT_S = 5.0
"""Longer than any wait on a socket."""
PING_WAIT_S = 0.5


class Transfers:
    """The threads and queues of one engine's tier.

    Args:
        server: the Redis to use.
        ttl_s: how long a block lives after its last use.
        queue_bytes: most bytes of blocks waiting to be stored. Loads need no such bound: vLLM has set memory aside for
            each, and one that is refused has lost a prefix that is there.
        clock: monotonic seconds, the same as `until_s` of a load.
    """

    def __init__(
        self, server: RedisServer, *, ttl_s: int, queue_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._ttl_s = ttl_s
        self._queue_bytes = queue_bytes
        self._clock = clock
        self._breaker = TierBreaker()
        self._storing_bytes = 0
        self._queues: dict[Kind, queue.SimpleQueue[Batch | None]] = {kind: queue.SimpleQueue() for kind in Kind}
        self._finished: list[Finished] = []
        self._counts = Counts()
        self._full_until_s = 0.0
        self._running = 0
        self._state = threading.Condition()
        """Guards everything above; never held while waiting for Redis."""
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, args=(kind,), name=f"tier-{kind.value}-{number}", daemon=True)
            for kind, count in ((Kind.LOAD, LOAD_THREADS), (Kind.STORE, 1))
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_up(self) -> bool:
        """Whether loads are worth handing over; a trial is the business of stores, for which no request waits."""
        with self._state:
            return self._breaker.state(self._clock()) is BreakerState.CLOSED

    @property
    def times_opened(self) -> int:
        """How often the breaker opened."""
        with self._state:
            return self._breaker.opened

    def load(self, job_id: int, keys: Sequence[bytes], rows: list[memoryview], *, until_s: float) -> None:
        """Fill `rows` with the blocks of these keys, until then at the latest."""
        self._submit(Kind.LOAD, job_id, keys, rows, until_s)

    def store(self, job_id: int, keys: Sequence[bytes], rows: list[memoryview]) -> None:
        """Store `rows` under these keys, unless they are there already."""
        self._submit(Kind.STORE, job_id, keys, rows, float("inf"))

    def _submit(self, kind: Kind, job_id: int, keys: Sequence[bytes], rows: list[memoryview], until_s: float) -> None:
        now_s = self._clock()
        starts = range(0, len(keys), BATCH_KEYS)
        job = Job(job_id, kind, keys, rows, until_s, now_s, [False] * len(keys), len(starts))
        size_bytes = sum(map(len, rows))
        with self._state:
            reason = self._refusal(kind, size_bytes, now_s)
            if reason is not None or not keys:
                if reason is not None and kind is Kind.STORE:
                    setattr(self._counts, reason, getattr(self._counts, reason) + len(keys))
                self._end(job)
                return
            self._running += 1
            if kind is Kind.STORE:
                self._storing_bytes += size_bytes
        for first in starts:
            self._queues[kind].put(Batch(job, first))

    def _refusal(self, kind: Kind, size_bytes: int, now_s: float) -> str | None:
        if self._closing or self._breaker.state(now_s) is BreakerState.OPEN:
            return "dropped_down"
        if kind is Kind.LOAD:
            return None
        if now_s < self._full_until_s:
            return "dropped_full"
        return "dropped_queue" if self._storing_bytes + size_bytes > self._queue_bytes else None

    def finished(self) -> list[Finished]:
        """Jobs that ended since the last call."""
        with self._state:
            ended, self._finished = self._finished, []
            return ended

    def counts(self) -> Counts:
        """What happened since the last call."""
        with self._state:
            counts, self._counts = self._counts, Counts()
            return counts

    def drain(self) -> None:
        """Return when no job is under way; bounded by the deadlines of the jobs."""
        with self._state:
            self._state.wait_for(lambda: self._running == 0)

    def close(self) -> None:
        """End the threads; jobs that have not begun end undone.

        Raises:
            TimeoutError: a thread is still in a call that should have ended.
        """
        with self._state:
            self._closing = True
        for kind, count in ((Kind.LOAD, LOAD_THREADS), (Kind.STORE, 1)):
            for _ in range(count):
                self._queues[kind].put(None)
        for thread in self._threads:
            thread.join(JOIN_WAIT_S)
        if any(thread.is_alive() for thread in self._threads):
            raise TimeoutError("a transfer from or to Redis did not end")

    def _work(self, kind: Kind) -> None:
        connection: Connection | None = None
        while True:
            batch: Batch | None
            try:
                batch = self._queues[kind].get(timeout=IDLE_WAIT_S if kind is Kind.STORE else None)
            except queue.Empty:
                connection = self._try_again(connection)
                continue
            if batch is None:
                break
            if connection is not None and not connection.is_usable:
                connection = None
            try:
                connection = self._run(batch, connection)
            except Exception:
                # Whatever it was, the job must end: a request, or memory of the host's, waits for it.
                log.exception("a transfer failed")
                connection = None
            self._batch_ended(batch)
        if connection is not None:
            connection.close()

    def _run(self, batch: Batch, connection: Connection | None) -> Connection | None:
        job = batch.job
        now_s = self._clock()
        until_s = job.until_s if job.kind is Kind.LOAD else now_s + STORE_WAIT_S
        with self._state:
            is_late = now_s >= until_s  # it waited behind one that Redis let wait
            if is_late or self._closing or not self._breaker.admits(now_s):
                if job.kind is Kind.STORE:
                    self._counts.dropped_down += len(batch.span)
                return connection
        counts = Counts()
        try:
            connection = connection or Connection(self._server, until_s=until_s)
            if job.kind is Kind.LOAD:
                load_batch(connection, batch, ttl_s=self._ttl_s, until_s=until_s, counts=counts)
            else:
                store_batch(connection, batch, ttl_s=self._ttl_s, until_s=until_s, counts=counts)
            self._answered()
        except TierConnectionError as error:
            self._failed(error)
            connection = None
        with self._state:
            self._counts.add(counts)
            if counts.dropped_full:
                self._full_until_s = self._clock() + FULL_PAUSE_S
        return connection

    def _try_again(self, connection: Connection | None) -> Connection | None:
        """Where a trial is due and no store came along to be it, a PING is."""
        now_s = self._clock()
        with self._state:
            is_due = self._breaker.state(now_s) is BreakerState.HALF_OPEN and self._breaker.admits(now_s)
        if not is_due:
            return connection
        try:
            until_s = now_s + PING_WAIT_S
            if connection is None or not connection.is_usable:
                connection = Connection(self._server, until_s=until_s)
            connection.ask([encode(b"PING")], until_s=until_s)
        except TierConnectionError as error:
            self._failed(error)
            return None
        self._answered()
        return connection

    def _answered(self) -> None:
        with self._state:
            if self._breaker.state(self._clock()) is not BreakerState.CLOSED:
                log.warning("Redis answers again: the KV tier is used")
            self._breaker.answered()

    def _failed(self, error: TierConnectionError) -> None:
        with self._state:
            if self._breaker.state(self._clock()) is BreakerState.CLOSED:
                log.warning("the KV tier does without Redis for a while: %s", error)
            self._breaker.failed(self._clock())
            self._counts.failures += 1

    def _batch_ended(self, batch: Batch) -> None:
        job = batch.job
        with self._state:
            job.left -= 1
            if job.left:
                return
            self._running -= 1
            if job.kind is Kind.STORE:
                self._storing_bytes -= sum(map(len, job.rows))
            self._end(job)
            self._state.notify_all()

    def _end(self, job: Job) -> None:
        """With the lock held: make the result, and let go of the job's memory."""
        seconds = self._clock() - job.began_s
        size_bytes = sum(len(row) for row, good in zip(job.rows, job.good, strict=True) if good)
        if job.kind is Kind.LOAD and size_bytes:
            self._counts.read_bytes += size_bytes
            self._counts.read_s += seconds
        for row in job.rows:
            row.release()
        job.rows = []
        ended = Finished(job_id=job.job_id, kind=job.kind, good=tuple(job.good), seconds=seconds, size_bytes=size_bytes)
        self._finished.append(ended)
