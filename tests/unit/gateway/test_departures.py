"""Whose answers are broken off when a lease is gone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from cluster.core.lease import Lease, ReplicaId
from services.gateway.departures import Departures
from services.gateway.upstream import FailureKind, HttpUpstream, UpstreamFailure
from tests.gateway_harness import lease

GONE = lease("short", "http://a", name="gone")


class Deaf:
    """Nobody answers anywhere."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.cut_off: list[str] = []

    async def get(self, *_: object) -> UpstreamFailure:
        self.asked.set()
        return UpstreamFailure(kind=FailureKind.TIMEOUT, detail="deaf")

    def cut(self, url: str, _why: str) -> int:
        self.cut_off.append(url)
        return 1


@pytest.mark.parametrize(
    ("now", "cut_off"),
    [
        ((), [GONE.url]),
        ((lease("short", "http://b", name="other"),), [GONE.url]),
        ((GONE,), []),
        ((replace(GONE, replica_id=ReplicaId("took its port")),), []),
    ],
)
async def test_only_an_address_that_no_lease_names_is_cut_off(now: tuple[Lease, ...], cut_off: list[str]) -> None:
    upstream = Deaf()
    leases = {one.replica_id: one for one in now}
    departures = Departures(cast("HttpUpstream", upstream), leases=lambda: leases)
    departures.gone(GONE)
    await asyncio.gather(*departures._tasks)
    assert (upstream.asked.is_set(), upstream.cut_off) == (True, cut_off)
