"""The chart's cluster on two Ray nodes, and one of them cut off.

Everything comes out of `helm template`: configuration, commands, variables, Secrets, mounts, names, probes, policies.
Each pod is a set of namespaces of this machine; stores, head, two workers with a pool each, and a gateway run as in
Kubernetes, and Serve's applications are submitted as KubeRay does. What no machine without a cluster can show is told
in docs/kubernetes.md.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from tests import two_nodes_kuberay as kuberay
from tests.cluster_harness import until
from tests.kubernetes.conftest import or_skip
from tests.kubernetes.network import Peer, Policies
from tests.kubernetes.render import Rendered, Renderer, Values
from tests.kubernetes.tools import tool
from tests.two_nodes_cluster import ENGINES_LIMIT_S, GATEWAY, HEAD, STORES, Nodes, two_nodes
from tests.two_nodes_network import NoNamespacesError, require_namespaces
from tests.two_nodes_pod import secret
from tests.two_nodes_traffic import (
    OUTPUT_TOKENS,
    SHORT_TOKENS,
    STREAM_TOKENS,
    UNANSWERED_TOKENS,
    Asked,
    Cut,
    Traffic,
    traffic,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

VALUES = Path(__file__).with_name("two_nodes.yaml")
CUT = "ray-worker-near"
"""The node of the pool `short`, whose requests the pool `long` can hold."""
STREAMS_AT_CUT = 3
UNANSWERED_AT_CUT = 2
TEST_LIMIT_S = 120
SERVE_LIMIT_S = 180
"""A replica that never found a node is given up within a drain's time."""
AFTER_EXPIRY = 20
"""Short requests that come while the node is away and its lease gone: ten seconds of them. Serve gives up a replica
that it has not reached for half a minute, and the figures are about one that comes back before."""


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    helm = or_skip(lambda: tool("helm", home=tmp_path_factory.mktemp("helm")))
    return Renderer(helms={"4": helm}, scratch=tmp_path_factory.mktemp("values"))


@pytest.fixture(scope="module")
def rendered(render: Renderer) -> Rendered:
    return render(VALUES)


@pytest.fixture(scope="module")
def nodes(rendered: Rendered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    try:
        require_namespaces()
    except NoNamespacesError as error:
        pytest.skip(f"two Ray nodes on one machine: {error}")
    with two_nodes(rendered, tmp_path_factory.mktemp("pods")) as running:
        yield running


def test_probes_of_the_chart_pass(nodes: Nodes) -> None:
    probed, wrong = 0, []
    serving = [pod for pod in nodes.pods.values() if pod.view.component not in {"test", *STORES}]
    for pod in serving:
        probes = [pod.view.main.get(f"{kind}Probe") for kind in ("startup", "readiness", "liveness")]
        for probe in probes:
            if probe is not None and "httpGet" in probe:
                probed += 1
                wrong.append(nodes.kubelet.run(nodes.answers(pod, probe)))
    assert probed == 3 * len(serving), "a pod has no HTTP probe"
    assert [one for one in wrong if one is not None] == []


def test_policies_allow_every_connection_there_is(nodes: Nodes) -> None:
    """Connections as the kernel lists them, while requests run, against the chart's NetworkPolicies."""
    nodes.kubelet.run(_serve_some(nodes))
    names = {pod.address: name for name, pod in nodes.pods.items()}
    peers = {name: Peer.of(pod.view) for name, pod in nodes.pods.items()}
    listening = {name: nodes.network.listening(name) for name in nodes.pods}
    policies = Policies.of(nodes.rendered)
    seen, refused = set(), []
    for name in nodes.pods:
        for address, port in nodes.network.connections(name):
            other = names.get(address)
            # Each connection is seen from both ends; who listens is who was connected to.
            if other in {None, name} or port not in listening[other]:
                continue
            seen.add((name, other))
            if not policies.allow(peers[name], peers[other], port):
                refused.append(f"{name} -> {other}:{port}")
    assert refused == []
    # That the table is not empty: what this cluster cannot do without.
    assert {(GATEWAY, "redis-state"), (GATEWAY, CUT), (HEAD, "redis-gcs"), (CUT, HEAD), (CUT, "redis-state")} <= seen


@pytest.mark.parametrize("api", ["rest", "grpc"])
def test_the_charts_own_test_passes(nodes: Nodes, api: str) -> None:
    """The pod that `helm test` runs."""
    pod = nodes.pods[f"{nodes.rendered.release}-test-{api}"]
    pod.start()
    status = pod.finished(TEST_LIMIT_S)
    assert status == 0, pod.log(pod.view.main["name"]).read_text(encoding="utf-8")


def test_another_replica_count_replaces_no_replica(nodes: Nodes, render: Renderer, rendered: Rendered) -> None:
    pools = yaml.safe_load(VALUES.read_text(encoding="utf-8"))["config"]["pools"]
    more: Values = {"config": {"pools": [{**pool, "replicas": {"min": 2, "max": 2}} for pool in pools]}}

    async def to_two_and_back() -> None:
        before = await kuberay.replicas(nodes.dashboard)

        async def are_more() -> bool:
            return all(len(found) == 2 for found in (await kuberay.replicas(nodes.dashboard)).values())

        async def are_as_before() -> bool:
            return await kuberay.replicas(nodes.dashboard) == before

        await nodes.submit(render(VALUES, more))
        await until(
            are_more, timeout_s=SERVE_LIMIT_S, what="each pool has a second replica, which no node has room for"
        )
        for pool, found in (await kuberay.replicas(nodes.dashboard)).items():
            assert before[pool].items() <= found.items(), f"{pool} had {before[pool]} and has {found}"
        await nodes.submit(rendered)
        await until(are_as_before, timeout_s=SERVE_LIMIT_S, what=f"the replicas are {before} again, and run")

    nodes.kubelet.run(to_two_and_back())


def test_a_node_cut_off_loses_no_request_that_comes_after_its_lease(
    nodes: Nodes, capsys: pytest.CaptureFixture[str]
) -> None:
    # Apart: a gateway that has not read the last lease yet refuses.
    nodes.kubelet.run(_serve_some(nodes))
    before = nodes.kubelet.run(nodes.leases())
    cut, asked = nodes.kubelet.run(_cut_off(nodes))
    after = nodes.kubelet.run(nodes.leases())
    figures = cut.figures(asked) | {"same_replica": after["short"].replica_id == before["short"].replica_id}
    with capsys.disabled():
        print("\ntwo nodes, one cut off:", json.dumps(figures))  # noqa: T201 - the figures are the point
    late = [one for one in cut.after_expiry(asked) if one.is_lost]
    assert late == [], [str(one) for one in late]
    assert [str(one) for one in asked if one.kind == "document" and one.is_lost] == []
    # The kernel ends connections to a silent machine: streams go on elsewhere, and what has no byte yet is tried there.
    streams = [one for one in asked if one.kind == "stream"]
    assert len(streams) == STREAMS_AT_CUT
    assert all(one.ended_s > cut.cut_s for one in streams), "a stream was over before the cut"
    assert [str(one) for one in streams if one.is_lost] == []
    unanswered = [one for one in asked if cut.was_unanswered(one)]
    assert len(unanswered) >= UNANSWERED_AT_CUT
    assert [str(one) for one in unanswered if one.is_lost] == []
    assert {one.pool for one in asked if one.kind == "short" and cut.unchosen_s < one.began_s < cut.mended_s} == {
        "long"
    }


async def _serve_some(nodes: Nodes) -> None:
    async with traffic(nodes.gateway_url, nodes.client_key) as running:
        await _warm(running)


async def _warm(running: Traffic) -> None:
    def is_warm() -> bool:
        served = [one.pool for one in running.asked if not one.is_lost]
        return served.count("short") > 3 and served.count("long") > 0

    await until(is_warm, timeout_s=120, what="both pools answer")


async def _cut_off(nodes: Nodes) -> tuple[Cut, list[Asked]]:
    async with traffic(nodes.gateway_url, nodes.client_key) as running:
        await _warm(running)
        streams = [
            running.begin("stream", is_streamed=True, output_tokens=STREAM_TOKENS) for _ in range(STREAMS_AT_CUT)
        ]
        await until(lambda: all(one.pool for one in streams), timeout_s=60, what="streams are under way")
        for _ in range(UNANSWERED_AT_CUT):
            running.begin("short", is_streamed=False, output_tokens=UNANSWERED_TOKENS)
        # When the state store has answered, they are on their way.
        await nodes.leases()
        nodes.network.cut(CUT)
        cut_s = time.monotonic()
        try:
            watching = asyncio.create_task(_until_unchosen(nodes))
            expired_s = await _when_lease_is(nodes, held=False)
            unchosen_s = await watching

            def are_enough() -> bool:
                return sum(one.kind == "short" and one.began_s > expired_s for one in running.asked) >= AFTER_EXPIRY

            await until(are_enough, timeout_s=60, what="enough requests came after the lease")
        finally:
            nodes.network.mend(CUT)
        mended_s = time.monotonic()
        leased_s = await _when_lease_is(nodes, held=True)

        def serves_again() -> bool:
            return any(one.pool == "short" and one.began_s > mended_s and one.ended_s for one in running.asked)

        await until(serves_again, timeout_s=ENGINES_LIMIT_S, what="the pool short serves again")
    cut = Cut(cut_s=cut_s, expired_s=expired_s, unchosen_s=unchosen_s, mended_s=mended_s, leased_s=leased_s)
    return cut, running.asked


async def _when_lease_is(nodes: Nodes, *, held: bool) -> float:
    async with nodes.store() as store:

        async def is_so() -> bool:
            return any(lease.pool == "short" for lease in await store.leases()) is held

        await until(is_so, timeout_s=60, what=f"the node's lease is {'held' if held else 'gone'}")
    return time.monotonic()


async def _until_unchosen(nodes: Nodes) -> float:
    """When the gateway takes the pool that was cut off for dead as it decides for a short request."""
    key = secret(nodes.rendered, f"{nodes.rendered.release}-keys")["admin"]
    url = f"http://{nodes.pods[GATEWAY].address}:8081/debug/route?route=completions"
    body = {"model": "tiny", "prompt": [100] * SHORT_TOKENS, "max_tokens": OUTPUT_TOKENS}
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}) as http:

        async def is_unchosen() -> bool:
            decision = (await http.post(url, json=body)).raise_for_status().json()
            return bool(decision["home"] == "dead")

        await until(is_unchosen, timeout_s=60, what="the gateway no longer chooses the node")
    return time.monotonic()
