"""Leases and reports of replicas in the state Redis.

Keys, all below `longreach:{CLUSTER}:` (the braces keep one cluster in one Redis Cluster slot): `replicas` is the set
of known ids, `lease:ID` a lease that expires by itself, `report:ID` what people read, kept for a day.
What must not live here: what a lease means (cluster/core/lease.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict

from redis.asyncio import Redis

from cluster.core.lease import LEASE_TTL_S, Lease, PoolName, ReplicaId, ReplicaPhase, ReplicaReport, ReplicaState

REPORT_TTL_S = 86_400
"""A failed replica can be read about for a day; every renewal of its lease begins that day anew."""
CONNECT_TIMEOUT_S = 1.0
COMMAND_TIMEOUT_S = 2.0
"""Nothing on the request path waits for Redis, so these only bound how long a background refresh may hang."""


def connect(url: str) -> Redis:
    """A client for the state store whose every wait is bounded."""
    return Redis.from_url(
        url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=COMMAND_TIMEOUT_S, decode_responses=True
    )


class LeaseStore:
    """Reads and writes leases and reports of one cluster.

    Every method raises `redis.exceptions.RedisError` (or OSError) when the store cannot be reached.
    """

    def __init__(self, redis: Redis, cluster: str) -> None:
        self._redis = redis
        self._prefix = f"longreach:{{{cluster}}}:"

    async def put_lease(self, lease: Lease) -> None:
        """Write or renew a lease for `LEASE_TTL_S`."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.sadd(self._prefix + "replicas", lease.replica_id)
            pipe.set(self._key("lease", lease.replica_id), json.dumps(asdict(lease)), px=int(LEASE_TTL_S * 1000))
            pipe.expire(self._key("report", lease.replica_id), REPORT_TTL_S)
            await pipe.execute()

    async def drop_lease(self, replica_id: ReplicaId) -> None:
        """Withdraw a lease at once; the report stays."""
        await self._redis.delete(self._key("lease", replica_id))

    async def put_report(self, report: ReplicaReport) -> None:
        """Write what `longreach status` shows of a replica."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.sadd(self._prefix + "replicas", report.replica_id)
            pipe.set(self._key("report", report.replica_id), json.dumps(asdict(report)), ex=REPORT_TTL_S)
            await pipe.execute()

    async def leases(self) -> tuple[Lease, ...]:
        """Every live lease, ordered by replica id."""
        return tuple(_lease(text) for text in await self._read("lease"))

    async def reports(self) -> tuple[ReplicaReport, ...]:
        """Every report of the last day, ordered by replica id."""
        return tuple(_report(text) for text in await self._read("report"))

    async def _read(self, kind: str) -> list[str]:
        ids = sorted(str(replica_id) for replica_id in await self._redis.smembers(self._prefix + "replicas"))
        if not ids:
            return []
        found = await self._redis.mget([self._key(kind, ReplicaId(replica_id)) for replica_id in ids])
        if kind == "report":
            await self._forget([replica_id for replica_id, text in zip(ids, found, strict=True) if text is None])
        return [str(text) for text in found if text is not None]

    async def _forget(self, unreported: list[str]) -> None:
        """Remove ids nobody will ask about again. A report outlives its lease, unless the store lost it."""
        if not unreported:
            return
        leases = await self._redis.mget([self._key("lease", ReplicaId(replica_id)) for replica_id in unreported])
        gone = [replica_id for replica_id, lease in zip(unreported, leases, strict=True) if lease is None]
        if gone:
            await self._redis.srem(self._prefix + "replicas", *gone)

    def _key(self, kind: str, replica_id: ReplicaId) -> str:
        return f"{self._prefix}{kind}:{replica_id}"


def _lease(text: str) -> Lease:
    data = json.loads(text)
    data["state"] = ReplicaState(data["state"])
    data["pool"] = PoolName(data["pool"])
    return Lease(**data)


def _report(text: str) -> ReplicaReport:
    data = json.loads(text)
    data["phase"] = ReplicaPhase(data["phase"])
    return ReplicaReport(**data)
