"""What replicas have cached, in the state Redis: a stream of updates for each replica, and a snapshot to begin with.

Keys, below `longreach:{CLUSTER}:`: `residency:ID` is a stream with one update an entry (field `u`), bounded in length;
`residency-snapshot:ID` holds everything once more, behind the stream id of the last update that is in it. Both expire
by themselves, and either may vanish at any time: readers tell gaps by epoch and seq, which are in the messages.
What must not live here: the messages' form (cluster/core/prefix/messages.py), when something is written.
"""

from __future__ import annotations

import asyncio
import struct
import time
from array import array
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cluster.core.lease import ReplicaId
from cluster.core.prefix import ResidencyUpdate, decode_snapshot, decode_update, encode_snapshot, encode_update
from cluster.state.leases import COMMAND_TIMEOUT_S, CONNECT_TIMEOUT_S
from cluster.state.login import StateServer

STREAM_UPDATES_MAX = 4096
"""Updates a stream keeps: 40 s of a replica that says something every 10 ms. Who is further behind takes the snapshot,
which comes every few seconds."""
RESIDENCY_TTL_S = 60
"""How long stream and snapshot outlive their last renewal: they are of no use without a lease, and that ends in 4 s."""
READ_UPDATES_MAX = 256
"""Updates of one replica in one answer, so that a long absence is caught up with in pieces."""
BLOCK_MAX_S = 5.0
"""Longest a read may wait for news; the client's own timeout comes after it."""
FIELD = b"u"
_POSITION = struct.Struct(">QQ")
"""A stream id, in front of a snapshot."""


class Snapshot(NamedTuple):
    """All that one replica holds, and where to go on reading."""

    epoch: int
    seq: int
    """Of the last update that is in it."""
    keys: array[int]
    tokens: array[int]
    position: str
    """The stream id after which updates are missing from it."""


def connect_binary(state: str | StateServer, *, wait_s: float = BLOCK_MAX_S) -> Redis:
    """A client for the state store that leaves bytes as they are; every wait is bounded.

    Nothing is tried twice: a writer begins a new epoch instead, and a reader reads again anyway.

    Args:
        state: the store, as for `connect`.
        wait_s: how long its reads may wait for news; 0 for a writer.
    """
    url, login = (state, {}) if isinstance(state, str) else (state.url, state.client_options())
    return Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=COMMAND_TIMEOUT_S + wait_s,
        retry=Retry(NoBackoff(), 0),
        decode_responses=False,
        **login,
    )


class ResidencyWriter:
    """One replica's side. Every method raises `RedisError` or OSError when the store cannot be reached.

    Args:
        redis: a client that leaves bytes as they are.
        cluster: the cluster's name.
        replica_id: whose cache it is.
        clock: seconds since the epoch.
    """

    def __init__(
        self, redis: Redis, cluster: str, replica_id: ReplicaId, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._redis = redis
        self._stream = stream_key(cluster, replica_id)
        self._snapshot = snapshot_key(cluster, replica_id)
        self._clock = clock
        self._epoch: int | None = None
        self._epoch_ms = 0

    async def publish(self, update: ResidencyUpdate) -> None:
        """Append an update; the stream lives on for `RESIDENCY_TTL_S`.

        An update that was written already, by a call whose answer got lost, is refused by Redis: ids only grow.

        Raises:
            ValueError: the update has no form; see `encode_update`.
        """
        fields: dict[Any, Any] = {FIELD: encode_update(update)}
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(self._stream, fields, id=self._id(update.epoch, update.seq), maxlen=STREAM_UPDATES_MAX)
            pipe.expire(self._stream, RESIDENCY_TTL_S)
            await pipe.execute()

    async def snapshot(self, epoch: int, seq: int, keys: array[int], tokens: array[int]) -> None:
        """Write all there is after update `seq`, for `RESIDENCY_TTL_S`.

        An epoch begins with its snapshot: who reads of another epoch in the stream finds it already here.

        Raises:
            ValueError: there is too much of it; see `encode_snapshot`.
        """
        self._id(epoch, seq)
        position = _POSITION.pack(self._epoch_ms, seq)
        body = await asyncio.to_thread(encode_snapshot, epoch, seq, keys, tokens)
        await self._redis.set(self._snapshot, position + body, ex=RESIDENCY_TTL_S)

    async def renew(self) -> bool:
        """Let both live on for `RESIDENCY_TTL_S`; False when there is no snapshot any more."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.expire(self._stream, RESIDENCY_TTL_S)
            pipe.expire(self._snapshot, RESIDENCY_TTL_S)
            _, is_there = await pipe.execute()
        return bool(is_there)

    async def withdraw(self) -> None:
        """Take everything back."""
        await self._redis.delete(self._stream, self._snapshot)

    def _id(self, epoch: int, seq: int) -> str:
        """The stream id of an update, known before it is written: when its epoch began, and its seq."""
        if epoch != self._epoch:
            self._epoch = epoch
            # A clock that was set back must not make ids that Redis refuses.
            self._epoch_ms = max(int(self._clock() * 1000), self._epoch_ms + 1)
        return f"{self._epoch_ms}-{seq}"


class ResidencyReader:
    """A gateway's side. Every method raises `RedisError` or OSError when the store cannot be reached."""

    def __init__(self, redis: Redis, cluster: str) -> None:
        self._redis = redis
        self._cluster = cluster

    async def read(
        self, positions: Mapping[ReplicaId, str], block_ms: int
    ) -> list[tuple[ReplicaId, str, ResidencyUpdate | None]]:
        """Updates after `positions`, each replica's in their order.

        Args:
            positions: where reading goes on, by replica; from `snapshot`, then from what this returns.
            block_ms: how long to wait for news, at most `BLOCK_MAX_S`; 0 does not wait.

        Returns:
            Replica, stream id, update; None stands for an entry that cannot be read.
        """
        wait_ms = min(block_ms, int(BLOCK_MAX_S * 1000))
        if not positions:
            await asyncio.sleep(wait_ms / 1000)
            return []
        streams: dict[Any, Any] = {
            stream_key(self._cluster, replica_id): position for replica_id, position in positions.items()
        }
        ids = {key.encode(): replica_id for key, replica_id in zip(streams, positions, strict=True)}
        # Redis takes 0 for "for ever".
        answer: Any = await self._redis.xread(streams, count=READ_UPDATES_MAX, block=wait_ms or None)
        pairs = answer.items() if isinstance(answer, dict) else answer or ()
        return [
            (ids[key], entry_id.decode(), _update(fields)) for key, entries in pairs for entry_id, fields in entries
        ]

    async def snapshot(self, replica_id: ReplicaId) -> Snapshot | None:
        """What the replica holds; None where it has said nothing, or nothing that can be read."""
        found: Any = await self._redis.get(snapshot_key(self._cluster, replica_id))
        if found is None or len(found) < _POSITION.size:
            return None
        began_ms, entry = _POSITION.unpack_from(found)
        try:
            epoch, seq, keys, tokens = await asyncio.to_thread(decode_snapshot, found[_POSITION.size :])
        except ValueError:
            return None
        return Snapshot(epoch=epoch, seq=seq, keys=keys, tokens=tokens, position=f"{began_ms}-{entry}")


def stream_key(cluster: str, replica_id: ReplicaId) -> str:
    """The stream of one replica's updates."""
    return f"longreach:{{{cluster}}}:residency:{replica_id}"


def snapshot_key(cluster: str, replica_id: ReplicaId) -> str:
    """One replica's snapshot."""
    return f"longreach:{{{cluster}}}:residency-snapshot:{replica_id}"


def _update(fields: Mapping[bytes, bytes]) -> ResidencyUpdate | None:
    try:
        return decode_update(fields[FIELD])
    except (KeyError, ValueError):
        return None
