"""Leases and reports of replicas in the state Redis.

Keys, all below `longreach:{CLUSTER}:` (the braces keep one cluster in one Redis Cluster slot): `replicas` is the set
of known ids, `lease:ID` a lease that expires by itself, `report:ID` what people read, kept for a day, `drain:ID` there
while an operator keeps that replica out of use.
What must not live here: what a lease means (cluster/core/lease.py).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

from redis.asyncio import Redis

from cluster.core.lease import LEASE_TTL_S, Lease, ReplicaId, ReplicaPhase, ReplicaReport, ReplicaState
from cluster.state.login import StateServer

log = logging.getLogger("longreach.state")
T = TypeVar("T")
REPORT_TTL_S = 86_400
"""A failed replica can be read about for a day; every renewal of its lease begins that day anew."""
CONNECT_TIMEOUT_S = 1.0
COMMAND_TIMEOUT_S = 2.0
"""Nothing on the request path waits for Redis, so these only bound how long a background refresh may hang."""
TOLD_MAX = 20
"""Different complaints about entries that cannot be read; each is logged once, for leases are read twice a second."""


def connect(state: str | StateServer) -> Redis:
    """A client for the state store whose every wait is bounded.

    Args:
        state: an address with all in it, or a server whose password is read for every connection.
    """
    url, login = (state, {}) if isinstance(state, str) else (state.url, state.client_options())
    return Redis.from_url(
        url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=COMMAND_TIMEOUT_S, decode_responses=True, **login
    )


class LeaseStore:
    """Reads and writes leases and reports of one cluster.

    Every method raises `redis.exceptions.RedisError` (or OSError) when the store cannot be reached.
    """

    def __init__(self, redis: Redis, cluster: str) -> None:
        self._redis = redis
        self._prefix = f"longreach:{{{cluster}}}:"
        self._told: set[str] = set()

    async def put_lease(self, lease: Lease) -> bool:
        """Write or renew a lease for `LEASE_TTL_S`.

        Returns:
            Whether the replica's report is still there, which the store may have lost.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.sadd(self._prefix + "replicas", lease.replica_id)
            pipe.set(self._key("lease", lease.replica_id), json.dumps(asdict(lease)), px=int(LEASE_TTL_S * 1000))
            pipe.expire(self._key("report", lease.replica_id), REPORT_TTL_S)
            *_, is_reported = await pipe.execute()
        return bool(is_reported)

    async def drop_lease(self, replica_id: ReplicaId) -> None:
        """Withdraw a lease at once; the report stays."""
        await self._redis.delete(self._key("lease", replica_id))

    async def drain(self, replica_id: ReplicaId, for_s: float | None) -> None:
        """Keep a replica out of use for so long on every gateway; None: let it take work again."""
        if for_s is None:
            await self._redis.delete(self._key("drain", replica_id))
        else:
            await self._redis.set(self._key("drain", replica_id), "1", px=max(1, int(for_s * 1000)))

    async def put_report(self, report: ReplicaReport) -> None:
        """Write what `longreach status` shows of a replica."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.sadd(self._prefix + "replicas", report.replica_id)
            pipe.set(self._key("report", report.replica_id), json.dumps(asdict(report)), ex=REPORT_TTL_S)
            await pipe.execute()

    async def leases(self) -> tuple[Lease, ...]:
        """Every live lease, ordered by replica id."""
        leases = self._understood(_lease, await self._read("lease"))
        if not leases:
            return leases
        marks = await self._redis.mget([self._key("drain", lease.replica_id) for lease in leases])
        return tuple(
            lease if mark is None else replace(lease, state=ReplicaState.DRAINING, is_drained=True)
            for lease, mark in zip(leases, marks, strict=True)
        )

    async def reports(self) -> tuple[ReplicaReport, ...]:
        """Every report of the last day, ordered by replica id."""
        return self._understood(_report, await self._read("report"))

    def _understood(self, parse: Callable[[dict[str, Any]], T], texts: list[str]) -> tuple[T, ...]:
        """What this version can read; the rest was written by another one, whose replicas are not ours to use."""
        found = []
        for text in texts:
            try:
                found.append(parse(json.loads(text)))
            except (ValueError, TypeError, KeyError) as error:
                if repr(error) not in self._told and len(self._told) < TOLD_MAX:
                    self._told.add(repr(error))
                    log.warning("an entry of the state store is not understood: %r", error)
        return tuple(found)

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


def _lease(data: dict[str, Any]) -> Lease:
    known = {name: data[name] for name in _LEASE_FIELDS if name in data}
    known["state"] = ReplicaState(data["state"])
    known["adapters"] = tuple(data.get("adapters", ()))
    for name in ("prefix", "work"):
        told = data.get(name)
        known[name] = told if isinstance(told, dict) else None
    return Lease(**known)


def _report(data: dict[str, Any]) -> ReplicaReport:
    known = {name: data[name] for name in _REPORT_FIELDS if name in data}
    known["phase"] = ReplicaPhase(data["phase"])
    return ReplicaReport(**known)


_LEASE_FIELDS = tuple(field.name for field in fields(Lease))
_REPORT_FIELDS = tuple(field.name for field in fields(ReplicaReport))
