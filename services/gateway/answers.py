"""Where answers to requests with a key are kept: in the state store; in this worker where that is away or not there.

No client waits long for the store, and none sees an error because of it: its request is served without the promise that
another worker finds the answer. What must not live here: the store's keys (cluster/state/answers.py), making answers
(services/api/repeats.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from redis.exceptions import RedisError

from cluster.core.idempotency import Claim, KeptAnswer, Room, Shelf, Slot, decode, encode_answer
from services.gateway.following import follow_store

logger = logging.getLogger(__name__)

CALL_S = 1.0
"""Longest wait for one call: with a key a client waits for the store before its request goes out. Redis answers in
well under a millisecond; a connection may have to be made first, and this process may be busy."""
PUT_S = 2.0
"""Longest wait to put an answer there; nobody waits for it, and it may have megabytes."""
AWAY_S = 1.0
"""After a call that failed, the store is not asked for so long: one request a second notices that it is back."""
THREAD_BYTES = 64 * 1024
"""Compressing more than this takes a millisecond, which other streams would wait for."""


class AnswerSource(Protocol):
    """What is needed of the state store; cluster/state's AnswerStore is one."""

    async def take(self, slot: Slot, claim: Claim) -> bytes | None:
        """Claim a slot; the record that is there already."""
        ...

    async def renew(self, claims: Mapping[Slot, Claim]) -> None:
        """Let claims live on."""
        ...

    async def release(self, slot: Slot, claim: Claim) -> None:
        """Give a claim up."""
        ...

    async def put(self, slot: Slot, record: bytes, *, life_s: float, instead_of: Sequence[Slot] = ()) -> None:
        """Keep an answer."""
        ...


class Answers:
    """One worker's way to what is kept."""

    def __init__(
        self,
        source: AnswerSource | None,
        *,
        clock: Callable[[], float],
        room: Callable[[], Room],
        life_s: Callable[[], float],
        renew_s: float,
    ) -> None:
        """Nothing is asked yet.

        Args:
            source: the state store; None: this worker keeps answers alone.
            clock: monotonic seconds.
            room: this worker's share, as configured now.
            life_s: how long an answer is kept, as configured now.
            renew_s: between two renewals of claims.
        """
        self._source = source
        self._clock = clock
        self._room_now = room
        self._life_s = life_s
        self._renew_s = renew_s
        self._claims: dict[Slot, Claim] = {}
        self._own: Shelf[bytes] = Shelf()
        self._there: Shelf[None] = Shelf()
        """What this worker has put into the store."""
        self._away_until_s = 0.0

    @property
    def room(self) -> Room:
        """What this worker may keep."""
        return self._room_now()

    @property
    def has_store(self) -> bool:
        """Whether other workers are meant to find what is kept."""
        return self._source is not None

    @property
    def is_shared(self) -> bool:
        """Whether they do now."""
        return self._source is not None and self._clock() >= self._away_until_s

    async def take(self, slot: Slot, claim: Claim) -> Claim | KeptAnswer | None:
        """Claim a slot.

        Returns:
            What is there already, an answer or another's claim; None: the answer is ours to make.
        """
        own = self._own.get(slot, self._clock())
        if own is not None:
            return await self._decoded(own)
        held = await self._taken(slot, claim)
        return None if held is None else await self._decoded(held)

    async def put(self, slot: Slot, answer: KeptAnswer) -> int:
        """Keep an answer that has been made; never fails.

        Returns:
            How many answers are not kept because of it, this one included where it is too large.
        """
        is_large = len(answer.body) > THREAD_BYTES
        record = await asyncio.to_thread(encode_answer, answer) if is_large else encode_answer(answer)
        now_s, life_s, room, size_bytes = self._clock(), self._life_s(), self.room, len(record)
        if self._source is not None and self.is_shared:
            gone = self._there.put(slot, None, size_bytes, until_s=now_s + life_s, now_s=now_s, room=room)
            if slot in gone:
                return 1
            try:
                async with asyncio.timeout(PUT_S):
                    await self._source.put(slot, record, life_s=life_s, instead_of=gone)
            except (RedisError, OSError) as error:
                self._leave(error)
            else:
                self._claims.pop(slot, None)
                return len(gone)
        return len(self._own.put(slot, record, size_bytes, until_s=now_s + life_s, now_s=now_s, room=room))

    async def release(self, slot: Slot) -> None:
        """Where there is no answer, there will be none: whoever asks next makes one."""
        claim = self._claims.pop(slot, None)
        if claim is None or self._source is None or not self.is_shared:
            return
        try:
            async with asyncio.timeout(CALL_S):
                await self._source.release(slot, claim)
        except (RedisError, OSError) as error:
            self._leave(error)

    async def follow(self) -> None:
        """Renew claims until cancelled; returns where there is no store."""
        if self._source is not None:
            await follow_store(self._renew, retry_s=self._renew_s, what="claims of answers")

    async def _renew(self) -> None:
        claims = dict(self._claims)
        if claims and self._source is not None:
            await self._source.renew(claims)
            for slot in claims.keys() - self._claims.keys():
                # Given up meanwhile, and perhaps renewed after that.
                await self._source.release(slot, claims[slot])
        await asyncio.sleep(self._renew_s)

    async def _taken(self, slot: Slot, claim: Claim) -> bytes | None:
        if self._source is None or not self.is_shared:
            return None
        try:
            async with asyncio.timeout(CALL_S):
                held = await self._source.take(slot, claim)
        except (RedisError, OSError) as error:
            self._leave(error)
            return None
        if held is None:
            self._claims[slot] = claim
        return held

    async def _decoded(self, record: bytes) -> Claim | KeptAnswer | None:
        if len(record) > THREAD_BYTES:
            return await asyncio.to_thread(decode, record)
        return decode(record)

    def _leave(self, error: Exception) -> None:
        if self.is_shared:
            logger.warning(
                "state store away or slow: repeated requests find answers in their own worker only",
                extra={"error": f"{type(error).__name__}: {error}"},
            )
        self._away_until_s = self._clock() + AWAY_S
