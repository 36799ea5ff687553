"""Answers to requests with an `Idempotency-Key` in the state Redis, where every gateway of a cluster finds them.

One key a slot, `longreach:{CLUSTER}:answer:TENANT:HASH`. It holds a claim, which lives for `CLAIM_S` unless its worker
renews it, and then the answer. So a worker that was killed is replaced once its claim has run out. What must not live
here: what the records mean (cluster/core/idempotency.py), what is done where the store is away
(services/gateway/answers.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from cluster.core.idempotency import Claim, Slot, encode_claim

CLAIM_S = 4.0
"""How long a killed worker's requests wait for somebody else. Shorter, and a worker that is only held up would lose its
claim, and the request would be paid twice."""
RENEW_S = 1.0
"""Three renewals may fail before a claim is lost."""

_TAKE = """
local held = redis.call('GET', KEYS[1])
if held then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
_RENEW = """
for index, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  if not held or held == ARGV[index + 1] then redis.call('SET', key, ARGV[index + 1], 'PX', ARGV[1]) end
end
"""
"""A claim that is gone is made anew: the store may have come back empty."""
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
_PUT = """
local held = redis.call('GET', KEYS[1])
if held and string.sub(held, 2, 17) ~= string.sub(ARGV[1], 2, 17) then return end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for index = 2, #KEYS do redis.call('DEL', KEYS[index]) end
"""
"""Characters 2 to 17 are the fingerprint: another request may have the key once a claim was lost."""


class AnswerStore:
    """Claims and answers of one cluster.

    Every method raises `redis.exceptions.RedisError` (or OSError) when the store cannot be reached.
    """

    def __init__(self, redis: Redis, cluster: str) -> None:
        """Nothing is sent yet.

        Args:
            redis: a client that leaves bytes as they are.
            cluster: the cluster's name.
        """
        self._prefix = f"longreach:{{{cluster}}}:answer:"
        self._take = redis.register_script(_TAKE)
        self._renew = redis.register_script(_RENEW)
        self._release = redis.register_script(_RELEASE)
        self._put = redis.register_script(_PUT)

    async def take(self, slot: Slot, claim: Claim) -> bytes | None:
        """Claim a slot.

        Returns:
            The record that is there already; None: the claim is ours.
        """
        held: bytes | None = await self._take(
            keys=[self._prefix + slot], args=[encode_claim(claim), int(CLAIM_S * 1000)]
        )
        return held

    async def renew(self, claims: Mapping[Slot, Claim]) -> None:
        """Let claims live on; one that another worker has taken over stays theirs."""
        args: list[bytes | int] = [int(CLAIM_S * 1000), *map(encode_claim, claims.values())]
        await self._renew(keys=[self._prefix + slot for slot in claims], args=args)

    async def release(self, slot: Slot, claim: Claim) -> None:
        """Give a claim up: whoever asks next makes the answer."""
        await self._release(keys=[self._prefix + slot], args=[encode_claim(claim)])

    async def put(self, slot: Slot, record: bytes, *, life_s: float, instead_of: Sequence[Slot] = ()) -> None:
        """Keep an answer, instead of others of this worker.

        Args:
            slot: where.
            record: as `encode_answer` makes it.
            life_s: how long.
            instead_of: what goes for it.
        """
        keys = [self._prefix + one for one in (slot, *instead_of)]
        await self._put(keys=keys, args=[record, max(1, int(life_s * 1000))])
