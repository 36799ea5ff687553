"""What prefixes the KV tier keeps in its Redis, told among replicas and gateways through the state Redis.

One stream for each fingerprint, `longreach:{CLUSTER}:kept:FINGERPRINT`, that all its replicas append to: an entry
(field `u`) holds chunks that were stored or used at about its id's time. It needs no snapshot, for entries are no
changes: who joins reads it from its beginning. Bounded in length, and gone when nobody has added to it for as long as a
block lives.
What must not live here: what a gateway makes of it (cluster/core/prefix/kept.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from cluster.core.prefix import ResidencyUpdate, decode_update, encode_update
from cluster.state.residency import BLOCK_MAX_S, FIELD

STREAM_ENTRIES_MAX = 4096
"""At one entry a second and replica, an hour of one and a minute of many, who soon tell what is used again. A replica
that computes 10,000 new tokens a second writes some 8 KB an entry: 32 MB in all."""
READ_ENTRIES_MAX = 64
"""In one answer: at 65,536 chunks an entry at most, and mostly a few hundred."""


class Kept(NamedTuple):
    """An entry: chunks that the tier has, or had."""

    fingerprint: str
    position: str
    """The entry's id, where reading goes on."""
    written_s: float
    """When, in seconds since the epoch by the store's clock."""
    adds: Sequence[tuple[int, int]]
    """Keys with tokens, as in residency."""


class KeptWriter:
    """A replica's side. Raises `RedisError` or OSError when the store cannot be reached."""

    def __init__(self, redis: Redis, cluster: str, fingerprint: str, *, life_s: int) -> None:
        self._redis = redis
        self._stream = kept_key(cluster, fingerprint)
        self._life_s = life_s

    async def tell(self, adds: Sequence[tuple[int, int]]) -> None:
        """Append chunks.

        Raises:
            ValueError: they have no form; see `encode_update`.
        """
        fields: dict[Any, Any] = {FIELD: encode_update(ResidencyUpdate(epoch=0, seq=0, adds=adds))}
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(self._stream, fields, maxlen=STREAM_ENTRIES_MAX)
            pipe.expire(self._stream, self._life_s)
            await pipe.execute()


class KeptReader:
    """A gateway's side. Raises `RedisError` or OSError when the store cannot be reached."""

    def __init__(self, redis: Redis, cluster: str) -> None:
        self._redis = redis
        self._cluster = cluster

    async def read(self, positions: Mapping[str, str], block_ms: int) -> list[Kept]:
        """Entries after `positions` (by fingerprint), waiting for some at most that long; unreadable ones are empty."""
        streams: dict[Any, Any] = {kept_key(self._cluster, name): position for name, position in positions.items()}
        names = {key.encode(): name for key, name in zip(streams, positions, strict=True)}
        wait_ms = min(block_ms, int(BLOCK_MAX_S * 1000))
        # Redis takes 0 for "for ever".
        answer: Any = await self._redis.xread(streams, count=READ_ENTRIES_MAX, block=wait_ms or None)
        pairs = answer.items() if isinstance(answer, dict) else answer or ()
        return [
            Kept(names[key], entry_id.decode(), int(entry_id.split(b"-")[0]) / 1000, _adds(fields))
            for key, entries in pairs
            for entry_id, fields in entries
        ]


def kept_key(cluster: str, fingerprint: str) -> str:
    """The stream of what a fingerprint's blocks in Redis spell."""
    return f"longreach:{{{cluster}}}:kept:{fingerprint}"


def _adds(fields: Mapping[bytes, bytes]) -> Sequence[tuple[int, int]]:
    try:
        return decode_update(fields[FIELD]).adds
    except (KeyError, ValueError):
        return ()
