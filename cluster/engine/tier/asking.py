"""Before the engine sees a prompt: is it worth fetching, and if so, how much of it is in Redis?

This runs in the replica's API process, where waiting costs one request a moment and no other anything. Most prompts
are settled without a question: too short for a fetch to pay, or known to be in the engine's own cache. The question
itself is one round trip when nothing is there, and it refreshes the life of what is. What must not live here: vLLM,
the transfer of blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from cluster.core.routing.breaker import BreakerState
from cluster.core.tier.break_even import BreakEven
from cluster.core.tier.breaker import TierBreaker
from cluster.core.tier.keys import block_key, speed_key
from cluster.engine.tier import stats, value
from cluster.engine.tier.connection import Connection, RedisServer, TierConnectionError, encode, encode_set
from cluster.engine.tier.exchange import receive_value
from cluster.engine.tier.handshake import RequestTerms, TierFacts

log = logging.getLogger("longreach.tier")
FIRST_KEYS = 4
"""In the first question; most prompts that nobody has computed end here."""
GROWTH = 8
"""Each further question asks about so many times more."""
ANSWER_WAIT_MIN_S = 0.002
ANSWER_WAIT_MAX_S = 0.1
ANSWER_RATIO = 0.01
"""A question may take this share of the prompt's computation before the request goes on without an answer."""
WAITING_MAX = 32
"""Questions in the thread's queue; who finds it full does without."""
CALIBRATION_BYTES = 1 << 20
CALIBRATION_VALUES = 4
PINGS = 4
CALIBRATION_WAIT_S = 2.0
CALIBRATION_AGE_S = 60.0
"""A fetch speed older than this is measured again when a prompt asks for it: below the break-even nothing else does."""
SPEED_AGE_S = 10.0
"""How often the measured prefill speed is told to new replicas."""
SAMPLE_LIFE_S = 30
LATE_MAX = 2
"""Late answers in a row that open the breaker: one may be this machine's own fault."""
STEP_GAP_MAX_S = 60.0
"""A longer time between two reports of the scheduler was idleness."""


class Role(Enum):
    """Threads: a question must not wait behind a measurement."""

    ASK = "ask"
    MEASURE = "measure"


class BlockHashes(Protocol):
    """Hashes of a prompt's blocks, from its start, as the engine will compute them; None at its end."""

    def upto(self, blocks: int) -> Sequence[bytes]:
        """The first so many, or all there are."""
        ...


@dataclass(slots=True)
class AskCounts:
    """What became of prompts, since the start."""

    below: int = 0
    """Settled without a question: a fetch would not pay."""
    local: int = 0
    """Settled without a question: the engine has it."""
    down: int = 0
    asked: int = 0
    found: int = 0
    late: int = 0
    """Redis took longer than an answer is worth."""
    ask_s: float = 0.0
    """Time requests spent on all of this."""


def _nothing_local(hashes: Sequence[bytes]) -> int:
    del hashes
    return 0


class Asking:
    """One replica's questions to Redis.

    Args:
        facts: of the tier in the engine core.
        server: its Redis.
        ttl_s: how long a block lives after its last use.
        local_blocks: how many of these blocks, from the first, the engine's own cache or the host's tier holds.
    """

    def __init__(
        self,
        facts: TierFacts,
        server: RedisServer,
        *,
        ttl_s: int,
        local_blocks: Callable[[Sequence[bytes]], int] = _nothing_local,
    ) -> None:
        self._facts = facts
        self._server = server
        self._ttl_s = ttl_s
        self._local_blocks = local_blocks
        self.break_even = BreakEven(bytes_per_token=facts.bytes_per_token)
        self.counts = AskCounts()
        self._breaker = TierBreaker()
        self._threads = {role: ThreadPoolExecutor(1, thread_name_prefix=f"tier-{role.value}") for role in Role}
        self._connections: dict[Role, Connection] = {}
        """Each its thread's own."""
        self._waiting = 0
        self._late_in_row = 0
        self._fetch_measured_s = -CALIBRATION_AGE_S
        self._is_calibrating = False
        self._speed_told_s = float("-inf")
        self._stepped_s: float | None = None

    async def start(self) -> None:
        """Measure Redis, and learn from replicas like this one how fast they prefill. Redis may be away."""
        await asyncio.get_running_loop().run_in_executor(self._threads[Role.MEASURE], self._calibrate)

    def close(self) -> None:
        """Hang up."""
        for role, thread in self._threads.items():
            thread.submit(self._hang_up, role)
            thread.shutdown(wait=False)

    async def terms(self, *, prompt_tokens: int, tag: str, hashes: BlockHashes | None, is_busy: bool) -> RequestTerms:
        """What a request may take from Redis. Never raises, and waits a bounded share of the prompt's computation.

        Args:
            prompt_tokens: the prompt's length.
            tag: whose it is.
            hashes: of its blocks; None where they cannot be had, as for media.
            is_busy: whether the engine steps for other requests.
        """
        began_s = time.perf_counter()
        known_tokens = 0
        if hashes is not None:
            known_tokens = await self._known(prompt_tokens, tag, hashes, is_busy=is_busy)
        self.counts.ask_s += time.perf_counter() - began_s
        wait_s = self.break_even.prefill_s(known_tokens)
        return RequestTerms(known_tokens=known_tokens, wait_s=wait_s, tag=tag)

    async def _known(self, prompt_tokens: int, tag: str, hashes: BlockHashes, *, is_busy: bool) -> int:
        now_s = time.monotonic()
        if now_s - self._fetch_measured_s > CALIBRATION_AGE_S and not self._is_calibrating and self._is_up(now_s):
            self._is_calibrating = True
            self._threads[Role.MEASURE].submit(self._calibrate)
        whole_tokens = prompt_tokens - prompt_tokens % self._facts.block_tokens
        if not whole_tokens or not self.break_even.may_ask(whole_tokens, is_busy=is_busy):
            self.counts.below += 1
            return 0
        if self._waiting >= WAITING_MAX or not self._breaker.admits(now_s):
            self.counts.down += 1
            return 0
        bound_s = ANSWER_RATIO * self.break_even.prefill_s(prompt_tokens)
        bound_s = min(max(bound_s, ANSWER_WAIT_MIN_S), ANSWER_WAIT_MAX_S)
        least = self.break_even.min_fetch_tokens(is_busy=is_busy)
        self._waiting += 1
        answer = asyncio.get_running_loop().run_in_executor(
            self._threads[Role.ASK], self._ask, tag, hashes, prompt_tokens, least or 0, now_s + bound_s
        )
        answer.add_done_callback(self._asked)
        try:
            known_tokens = await asyncio.wait_for(asyncio.shield(answer), bound_s)
        except TimeoutError:
            self._late(bound_s)
            return 0
        except Exception:
            # A cache must not fail a request, whatever is wrong with it.
            log.exception("a question to the KV tier failed")
            return 0
        self._late_in_row = 0
        return known_tokens

    def _late(self, waited_s: float) -> None:
        self.counts.late += 1
        self._late_in_row += 1
        self.break_even.answered(waited_s)
        if self._late_in_row >= LATE_MAX or self._breaker.state(time.monotonic()) is not BreakerState.CLOSED:
            self._fail(TierConnectionError("its answers come too late"))

    def _asked(self, answer: asyncio.Future[int]) -> None:
        self._waiting -= 1
        if not answer.cancelled():
            answer.exception()

    def _is_up(self, now_s: float) -> bool:
        return self._breaker.state(now_s) is not BreakerState.OPEN

    def _ask(self, tag: str, hashes: BlockHashes, prompt_tokens: int, least: int, until_s: float) -> int:
        """In the thread: how many of the prompt's first tokens Redis has, if that is more than the engine has."""
        now_s = time.monotonic()
        if now_s >= until_s:
            return 0
        total = prompt_tokens // self._facts.block_tokens
        local = self._local_blocks(hashes.upto(total)) if self._local_blocks is not _nothing_local else 0
        if (total - local) * self._facts.block_tokens < least:
            self.counts.local += 1
            return 0
        self.counts.asked += 1
        found = 0
        try:
            for span in _spans(total):
                block_hashes = hashes.upto(span.stop)[span.start :]
                if not block_hashes:
                    break
                sent_s = time.monotonic()
                there = self._connect(Role.ASK, until_s).ask(
                    [encode(b"EXPIRE", self._key(tag, each), b"%d" % self._ttl_s) for each in block_hashes],
                    until_s=until_s,
                )
                if span.start == 0:
                    self.break_even.answered(time.monotonic() - sent_s)
                run = next((at for at, reply in enumerate(there) if reply != 1), len(there))
                found += run
                if run < len(there):
                    break
        except TierConnectionError as error:
            # What was found so far holds. A bound this short says little about Redis: whether it is there at all,
            # calibration finds out.
            if time.monotonic() < until_s:
                self._fail(error)
            elif not found:
                # The request's own wait ends now as well; either way it is a late answer.
                raise TimeoutError from error
            return self._worth(found, local, least)
        self._breaker.answered()
        return self._worth(found, local, least)

    def _worth(self, found: int, local: int, least: int) -> int:
        if (found - local) * self._facts.block_tokens < max(least, 1):
            return 0
        self.counts.found += 1
        return found * self._facts.block_tokens

    def _key(self, tag: str, block_hash: bytes) -> bytes:
        # The last four bytes are vLLM's number of the KV cache group, of which there is one.
        return block_key(self._facts.fingerprint, tag, block_hash + bytes(4))

    def prefilled(self, tokens: int, seconds: float) -> None:
        """The engine computed a prompt; told to new replicas now and then."""
        self.break_even.prefilled(tokens, seconds)
        now_s = time.monotonic()
        if now_s - self._speed_told_s > SPEED_AGE_S and self.break_even.prefill_tokens_per_s and self._is_up(now_s):
            self._speed_told_s = now_s
            self._threads[Role.MEASURE].submit(self._tell_speed)

    def observe(self, statistics: Any, *, is_busy: bool) -> None:
        """Take in the tier's statistics of one step of the engine.

        Args:
            statistics: `kv_connector_stats` of vLLM's SchedulerStats.
            is_busy: whether requests are running.
        """
        now_s = time.monotonic()
        last_s, self._stepped_s = self._stepped_s, now_s if is_busy else None
        if last_s is not None and now_s - last_s < STEP_GAP_MAX_S:
            self.break_even.stepped(now_s - last_s)
        read_bytes = stats.total(statistics, stats.READ_BYTES)
        if read_bytes:
            self.break_even.fetched(int(read_bytes), stats.total(statistics, stats.READ_SECONDS))
            self._fetch_measured_s = now_s

    def _connect(self, role: Role, until_s: float) -> Connection:
        connection = self._connections.get(role)
        if connection is None or not connection.is_usable:
            connection = self._connections[role] = Connection(self._server, until_s=until_s)
        return connection

    def _calibrate(self) -> None:
        """In the thread: time some values of our own, there and back."""
        until_s = time.monotonic() + CALIBRATION_WAIT_S
        payload = memoryview(bytearray(os.urandom(1024) * (CALIBRATION_BYTES // 1024)))
        key = b"kvb:%b:sample:%b" % (self._facts.fingerprint.encode(), os.urandom(8).hex().encode())
        try:
            connection = self._connect(Role.MEASURE, until_s)
            speed = connection.ask([encode(b"GET", speed_key(self._facts.fingerprint))], until_s=until_s)[0]
            if isinstance(speed, bytes):
                with contextlib.suppress(ValueError):
                    self.break_even.expect_prefill(float(speed))
            head = value.header(key, payload)
            connection.send(encode_set(key, head, payload, SAMPLE_LIFE_S), until_s=until_s)
            connection.reply(until_s=until_s)
            for _ in range(2):  # the first pass warms sockets and caches up
                began_s = time.monotonic()
                connection.send([encode(b"GET", key) * CALIBRATION_VALUES], until_s=until_s)
                for _ in range(CALIBRATION_VALUES):
                    size_bytes = connection.value_bytes(until_s=until_s)
                    if not isinstance(size_bytes, int):
                        return
                    receive_value(connection, size_bytes, key, payload, until_s)
                fetch_s = time.monotonic() - began_s
            began_s = time.monotonic()
            for _ in range(PINGS):
                connection.ask([encode(b"UNLINK", key)], until_s=until_s)
            self.break_even.calibrated((time.monotonic() - began_s) / PINGS)
            self.break_even.fetched(CALIBRATION_VALUES * len(payload), fetch_s)
            self._breaker.answered()
        except TierConnectionError as error:
            self._fail(error)
        finally:
            self._fetch_measured_s = time.monotonic()
            self._is_calibrating = False

    def _tell_speed(self) -> None:
        speed = self.break_even.prefill_tokens_per_s
        until_s = time.monotonic() + CALIBRATION_WAIT_S
        text = b"%.1f" % (speed or 0.0)
        command = encode(b"SET", speed_key(self._facts.fingerprint), text, b"EX", b"%d" % self._ttl_s)
        try:
            self._connect(Role.MEASURE, until_s).ask([command], until_s=until_s)
        except TierConnectionError as error:
            self._fail(error)

    def _fail(self, error: TierConnectionError) -> None:
        if self._breaker.state(time.monotonic()) is BreakerState.CLOSED:
            log.warning("prompts are not looked up in Redis for a while: %s", error)
        self._breaker.failed(time.monotonic())

    def _hang_up(self, role: Role) -> None:
        connection = self._connections.pop(role, None)
        if connection is not None:
            connection.close()


def _spans(total: int) -> Iterator[range]:
    start, size = 0, FIRST_KEYS
    while start < total:
        yield range(start, min(start + size, total))
        start, size = start + size, size * GROWTH
