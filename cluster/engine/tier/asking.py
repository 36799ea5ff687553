"""Before the engine sees a prompt: is it worth fetching, and if so, how much of it is in Redis?

This runs in the replica's API process, where waiting costs one request a moment and no other anything. Most prompts
are settled without a question: too short for a fetch to pay, or known to be in the engine's own cache. The question
itself is one round trip when nothing is there, and it refreshes the life of what is. What must not live here: vLLM,
the transfer of blocks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from cluster.core.routing.breaker import BreakerState
from cluster.core.tier.about import TierAbout
from cluster.core.tier.break_even import BreakEven
from cluster.core.tier.breaker import TierBreaker
from cluster.core.tier.keys import block_key
from cluster.core.tier.terms import TierTerms
from cluster.engine.tier import stats
from cluster.engine.tier.connection import Connection, RedisServer, TierConnectionError, encode
from cluster.engine.tier.handshake import RequestTerms, TierFacts
from cluster.engine.tier.measuring import Measuring

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
LATE_MAX = 2
"""Late answers in a row that open the breaker: one may be this machine's own fault."""
STEP_GAP_MAX_S = 60.0
"""A longer time between two reports of the scheduler was idleness."""


class Found(NamedTuple):
    """What a question came to."""

    known_tokens: int
    """Up to here the engine or Redis has the prompt."""
    fetched_tokens: int
    """Those of them that are to come from Redis."""


NOTHING = Found(0, 0)


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


class Asking:
    """One replica's questions to Redis.

    Args:
        facts: of the tier in the engine core.
        server: its Redis.
        ttl_s: how long a block lives after its last use.
        about: what the fingerprint stands for, to be left in Redis.

    Attributes:
        local_blocks: how many of these blocks, from the first, the engine's own cache or the host's memory holds.
        kept: told of blocks that the engine uses and Redis has as well. Both are called in threads.
    """

    def __init__(
        self,
        facts: TierFacts,
        server: RedisServer,
        *,
        ttl_s: int,
        about: TierAbout | None = None,
    ) -> None:
        self._facts = facts
        self._server = server
        self._ttl_s = ttl_s
        self.local_blocks: Callable[[Iterable[bytes]], int] = lambda _: 0
        self.kept: Callable[[Sequence[bytes]], None] = lambda _: None
        self.break_even = BreakEven(bytes_per_token=facts.bytes_per_token)
        self.counts = AskCounts()
        self._breaker = TierBreaker()
        self._measuring = Measuring(
            facts,
            server,
            ttl_s=ttl_s,
            break_even=self.break_even,
            answered=self._breaker.answered,
            failed=self._fail,
            about=about,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tier-ask")
        self._connection: Connection | None = None
        """The thread's own."""
        self._waiting = 0
        self._late_in_row = 0
        self._stepped_s: float | None = None

    async def start(self) -> None:
        """Measure Redis, and learn from replicas like this one how fast they prefill. Redis may be away."""
        await self._measuring.start()

    def close(self) -> None:
        """Hang up."""
        self._thread.submit(self._hang_up)
        self._thread.shutdown(wait=False)
        self._measuring.close()

    @property
    def breaker(self) -> TierBreaker:
        """To look at."""
        return self._breaker

    @property
    def fingerprint(self) -> str:
        """What the blocks' keys begin with."""
        return self._facts.fingerprint

    def offer(self) -> TierTerms | None:
        """What gateways may count on; None while nothing is fetched."""
        least_prompt, least = self.break_even.least_prompt_tokens(), self.break_even.min_fetch_tokens(is_busy=False)
        if least_prompt is None or least is None or self._breaker.state(time.monotonic()) is not BreakerState.CLOSED:
            return None
        return TierTerms(
            fingerprint=self._facts.fingerprint,
            life_s=self._ttl_s,
            least_tokens=least,
            least_prompt_tokens=least_prompt,
            cost_ratio=round(self.break_even.cost_ratio(), 3),
        )

    async def terms(self, *, prompt_tokens: int, tag: str, hashes: BlockHashes | None, is_busy: bool) -> RequestTerms:
        """What a request may take from Redis. Never raises, and waits a bounded share of the prompt's computation.

        Args:
            prompt_tokens: the prompt's length.
            tag: whose it is.
            hashes: of its blocks; None where they cannot be had, as for media.
            is_busy: whether the engine steps for other requests.
        """
        began_s = time.perf_counter()
        found = NOTHING
        if hashes is not None:
            found = await self._known(prompt_tokens, tag, hashes, is_busy=is_busy)
        self.counts.ask_s += time.perf_counter() - began_s
        # Longer than computing them would take, a load is not waited for.
        wait_s = self.break_even.prefill_s(found.fetched_tokens)
        return RequestTerms(known_tokens=found.known_tokens, wait_s=wait_s, tag=tag)

    async def _known(self, prompt_tokens: int, tag: str, hashes: BlockHashes, *, is_busy: bool) -> Found:
        now_s = time.monotonic()
        if self._is_up(now_s):
            self._measuring.keep_fresh(now_s)
        whole_tokens = prompt_tokens - prompt_tokens % self._facts.block_tokens
        if not whole_tokens or not self.break_even.may_ask(whole_tokens, is_busy=is_busy):
            self.counts.below += 1
            return NOTHING
        if self._waiting >= WAITING_MAX or not self._breaker.admits(now_s):
            self.counts.down += 1
            return NOTHING
        bound_s = ANSWER_RATIO * self.break_even.prefill_s(prompt_tokens)
        bound_s = min(max(bound_s, ANSWER_WAIT_MIN_S), ANSWER_WAIT_MAX_S)
        least = self.break_even.min_fetch_tokens(is_busy=is_busy)
        self._waiting += 1
        answer = asyncio.get_running_loop().run_in_executor(
            self._thread, self._ask, tag, hashes, prompt_tokens, least or 0, now_s + bound_s
        )
        answer.add_done_callback(self._asked)
        try:
            async with asyncio.timeout(bound_s):
                found = await asyncio.shield(answer)
        except TimeoutError:
            self._late(bound_s)
            return NOTHING
        except Exception:
            # A cache must not fail a request, whatever is wrong with it.
            log.exception("a question to the KV tier failed")
            return NOTHING
        self._late_in_row = 0
        return found

    def _late(self, waited_s: float) -> None:
        self.counts.late += 1
        self._late_in_row += 1
        self.break_even.answered(waited_s)
        if self._late_in_row >= LATE_MAX or self._breaker.state(time.monotonic()) is not BreakerState.CLOSED:
            self._fail(TierConnectionError("its answers come too late"))

    def _asked(self, answer: asyncio.Future[Found]) -> None:
        self._waiting -= 1
        if not answer.cancelled():
            answer.exception()

    def _is_up(self, now_s: float) -> bool:
        return self._breaker.state(now_s) is not BreakerState.OPEN

    def _ask(self, tag: str, hashes: BlockHashes, prompt_tokens: int, least: int, until_s: float) -> Found:
        """In the thread: how many of the prompt's first tokens Redis has, if that is more than the engine has."""
        now_s = time.monotonic()
        if now_s >= until_s:
            return NOTHING
        total = prompt_tokens // self._facts.block_tokens
        local = self._local(hashes, total)
        # What does not fit into the host's memory at once cannot be fetched.
        total = min(total, local + self._facts.host_blocks)
        if (total - local) * self._facts.block_tokens < least:
            self.counts.local += 1
            self._prolong(tag, hashes.upto(local))
            return NOTHING
        self.counts.asked += 1
        found = local
        try:
            for span in _spans(local, total):
                block_hashes = hashes.upto(span.stop)[span.start :]
                if not block_hashes:
                    break
                sent_s = time.monotonic()
                there = self._connect(until_s).ask(
                    [encode(b"EXPIRE", self._key(tag, each), b"%d" % self._ttl_s) for each in block_hashes],
                    until_s=until_s,
                )
                if span.start == local:
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
            elif found == local:
                # The request's own wait ends now as well; either way it is a late answer.
                raise TimeoutError from error
            return self._worth(found, local, least)
        self._breaker.answered()
        return self._worth(found, local, least)

    def _local(self, hashes: BlockHashes, total: int) -> int:
        """How many of the prompt's first blocks the engine holds; hashes no more than a few times as many."""
        size = FIRST_KEYS
        while True:
            part = hashes.upto(min(size, total))
            count = self.local_blocks(part)
            if count < len(part) or size >= total:
                return count
            size *= GROWTH

    def _prolong(self, tag: str, hashes: Sequence[bytes]) -> None:
        there = self.kept
        self._measuring.refresh(
            [self._key(tag, each) for each in hashes], lambda places: there([hashes[place] for place in places])
        )

    def _worth(self, found: int, local: int, least: int) -> Found:
        fetched_tokens = (found - local) * self._facts.block_tokens
        if fetched_tokens < max(least, 1):
            return NOTHING
        self.counts.found += 1
        return Found(found * self._facts.block_tokens, fetched_tokens)

    def _key(self, tag: str, block_hash: bytes) -> bytes:
        # The last four bytes are vLLM's number of the KV cache group, of which there is one.
        return block_key(self._facts.fingerprint, tag, block_hash + bytes(4))

    def prefilled(self, tokens: int, seconds: float) -> None:
        """The engine computed a prompt; told to new replicas now and then."""
        self.break_even.prefilled(tokens, seconds)
        now_s = time.monotonic()
        if self._is_up(now_s):
            self._measuring.tell_speed(now_s)

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
            self._measuring.fetched()
        if self._is_up(now_s):
            self._measuring.tell_about(now_s)

    def _connect(self, until_s: float) -> Connection:
        if self._connection is None or not self._connection.is_usable:
            self._connection = Connection(self._server, until_s=until_s)
        return self._connection

    def _fail(self, error: TierConnectionError) -> None:
        if self._breaker.state(time.monotonic()) is BreakerState.CLOSED:
            log.warning("prompts are not looked up in Redis for a while: %s", error)
        self._breaker.failed(time.monotonic())

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _spans(start: int, total: int) -> Iterator[range]:
    size = FIRST_KEYS
    while start < total:
        yield range(start, min(start + size, total))
        start, size = start + size, size * GROWTH
