"""What a replica finds out about Redis and tells it beside requests, in a thread of its own that nobody waits for.

How fast values come, how fast it answers, how fast replicas like this one prefill; and the life of blocks that the
engine uses from its own memory is prolonged, or Redis would lose what is used most. What must not live here: questions
about prompts (asking.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from cluster.core.tier.about import TierAbout
from cluster.core.tier.break_even import BreakEven
from cluster.core.tier.keys import about_key, sample_key, speed_key
from cluster.engine.tier import value
from cluster.engine.tier.connection import Connection, RedisServer, TierConnectionError, encode, encode_set
from cluster.engine.tier.exchange import receive_value
from cluster.engine.tier.handshake import TierFacts

CALIBRATION_BYTES = 1 << 20
CALIBRATION_VALUES = 4
PINGS = 4
CALIBRATION_WAIT_S = 2.0
CALIBRATION_AGE_S = 60.0
"""A fetch speed older than this is measured again when a prompt asks for it: below the break-even nothing else does."""
SPEED_AGE_S = 10.0
"""How often the measured prefill speed is told to new replicas."""
ABOUT_AGE_S = 60.0
"""How often Redis is told, while the engine steps, what the fingerprint stands for; a full one may have evicted it."""
ABOUT_LIVES = 2
"""How many lives of a block that record lives: never less than a block that was used while it was written."""
SAMPLE_LIFE_S = 30
REFRESH_RATIO = 0.25
"""Share of its life after which a block in use is prolonged."""
REFRESHED_MAX = 131_072
"""Blocks remembered as prolonged; who is forgotten is prolonged again."""
REFRESH_KEYS = 256
"""In one pipeline."""


class Measuring:
    """One replica's thread beside requests.

    Args:
        facts: of the tier in the engine core.
        server: its Redis.
        ttl_s: how long a block lives after its last use.
        break_even: what is measured goes in there.
        answered: called in the thread when Redis has answered.
        failed: called in the thread when it has not.
        about: what the fingerprint stands for; None tells nobody.
    """

    def __init__(
        self,
        facts: TierFacts,
        server: RedisServer,
        *,
        ttl_s: int,
        break_even: BreakEven,
        answered: Callable[[], None],
        failed: Callable[[TierConnectionError], None],
        about: TierAbout | None = None,
    ) -> None:
        self._facts = facts
        self._server = server
        self._ttl_s = ttl_s
        self._break_even = break_even
        self._answered = answered
        self._failed = failed
        self._about = about
        self._about_told_s = float("-inf")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tier-measure")
        self._connection: Connection | None = None
        self._fetched_s = -CALIBRATION_AGE_S
        self._is_calibrating = False
        self._speed_told_s = float("-inf")
        self._refreshed: dict[bytes, float] = {}
        self._is_refreshing = False

    async def start(self) -> None:
        """Measure Redis. Redis may be away."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._calibrate)
        self.tell_about(time.monotonic())

    def close(self) -> None:
        """Hang up."""
        self._thread.submit(self._hang_up)
        self._thread.shutdown(wait=False)

    def fetched(self) -> None:
        """Values came just now: what is measured of that is fresh."""
        self._fetched_s = time.monotonic()

    def keep_fresh(self, now_s: float) -> None:
        """Have the fetch speed measured again if it is old."""
        if now_s - self._fetched_s > CALIBRATION_AGE_S and not self._is_calibrating:
            self._is_calibrating = True
            self._thread.submit(self._calibrate)

    def tell_speed(self, now_s: float) -> None:
        """Tell new replicas how fast prompts are computed, now and then."""
        if now_s - self._speed_told_s > SPEED_AGE_S and self._break_even.prefill_tokens_per_s:
            self._speed_told_s = now_s
            self._thread.submit(self._tell_speed)

    def tell_about(self, now_s: float) -> None:
        """Tell people what the fingerprint stands for, now and then."""
        if self._about is not None and now_s - self._about_told_s > ABOUT_AGE_S:
            self._about_told_s = now_s
            self._thread.submit(self._tell, about_key(self._facts.fingerprint, self._about.model), self._about.encode())

    def refresh(self, keys: Sequence[bytes], there: Callable[[list[int]], None]) -> None:
        """Prolong the life of blocks that are in use, those of them for which it is time.

        Args:
            keys: in Redis.
            there: called in the thread with the places in `keys` of those that Redis has.
        """
        if self._is_refreshing:
            return
        due_s = time.monotonic() - REFRESH_RATIO * self._ttl_s
        due = [place for place, key in enumerate(keys) if self._refreshed.get(key, due_s) <= due_s]
        if due:
            self._is_refreshing = True
            self._thread.submit(self._refresh, keys, due, there)

    def _refresh(self, keys: Sequence[bytes], due: list[int], there: Callable[[list[int]], None]) -> None:
        found: list[int] = []
        try:
            for start in range(0, len(due), REFRESH_KEYS):
                part = due[start : start + REFRESH_KEYS]
                until_s = time.monotonic() + CALIBRATION_WAIT_S
                commands = [encode(b"EXPIRE", keys[place], b"%d" % self._ttl_s) for place in part]
                replies = self._connect(until_s).ask(commands, until_s=until_s)
                found += [place for place, reply in zip(part, replies, strict=True) if reply == 1]
            now_s = time.monotonic()
            for place in due:
                self._refreshed.pop(keys[place], None)
                self._refreshed[keys[place]] = now_s
            while len(self._refreshed) > REFRESHED_MAX:
                del self._refreshed[next(iter(self._refreshed))]
            there(found)
        except TierConnectionError as error:
            self._failed(error)
        finally:
            self._is_refreshing = False

    def _connect(self, until_s: float) -> Connection:
        if self._connection is None or not self._connection.is_usable:
            self._connection = Connection(self._server, until_s=until_s)
        return self._connection

    def _calibrate(self) -> None:
        """In the thread: time some values of our own, there and back."""
        until_s = time.monotonic() + CALIBRATION_WAIT_S
        payload = memoryview(bytearray(os.urandom(1024) * (CALIBRATION_BYTES // 1024)))
        key = sample_key(self._facts.fingerprint, os.urandom(8).hex())
        try:
            connection = self._connect(until_s)
            speed = connection.ask([encode(b"GET", speed_key(self._facts.fingerprint))], until_s=until_s)[0]
            if isinstance(speed, bytes):
                with contextlib.suppress(ValueError):
                    self._break_even.expect_prefill(float(speed))
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
            self._break_even.calibrated((time.monotonic() - began_s) / PINGS)
            self._break_even.fetched(CALIBRATION_VALUES * len(payload), fetch_s)
            self._answered()
        except TierConnectionError as error:
            self._failed(error)
        finally:
            self._fetched_s = time.monotonic()
            self._is_calibrating = False

    def _tell_speed(self) -> None:
        speed = self._break_even.prefill_tokens_per_s
        until_s = time.monotonic() + CALIBRATION_WAIT_S
        text = b"%.1f" % (speed or 0.0)
        command = encode(b"SET", speed_key(self._facts.fingerprint), text, b"EX", b"%d" % self._ttl_s)
        try:
            self._connect(until_s).ask([command], until_s=until_s)
        except TierConnectionError as error:
            self._failed(error)

    def _tell(self, key: bytes, text: bytes) -> None:
        until_s = time.monotonic() + CALIBRATION_WAIT_S
        command = encode(b"SET", key, text, b"EX", b"%d" % (ABOUT_LIVES * self._ttl_s))
        try:
            self._connect(until_s).ask([command], until_s=until_s)
        except TierConnectionError as error:
            self._failed(error)

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
