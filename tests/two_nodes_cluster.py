"""The chart's pods as a running cluster: stores, head, two workers, gateway, each in its namespace.

What must not live here: how a pod runs (two_nodes_pod.py), what is asked of the cluster (the test).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from redis.asyncio import Redis
from redis.exceptions import RedisError

from cluster.core.lease import Lease, ReplicaReport
from cluster.state.leases import LeaseStore, connect
from tests import two_nodes_kuberay as kuberay
from tests.cluster_harness import until
from tests.kubernetes.pods import PodView, pods, selects
from tests.kubernetes.render import Rendered
from tests.two_nodes_network import PodNetwork, Resident, pod_network
from tests.two_nodes_pod import Pod, secret

log = logging.getLogger(__name__)
HEAD, GATEWAY = "ray-head", "gateway"
STORES = ("redis-state", "redis-gcs")
KUBELET = "kubelet"
"""Where probes and clients come from: beside the pods, with an address of its own."""
ANSWER_LIMIT_S = 30.0
PROBE_LIMIT_S = 180.0
"""Longer than the chart's startup probes would wait on nodes whose two cores are not shared by all pods."""
SUBMIT_LIMIT_S = 120.0
"""The dashboard is there before it can reach Ray."""
ENGINES_LIMIT_S = 400.0
"""Two engines at once import vLLM on two cores: two to four minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The running cluster."""

    rendered: Rendered
    network: PodNetwork
    pods: dict[str, Pod]
    kubelet: Resident

    @property
    def dashboard(self) -> str:
        return f"http://{self.pods[HEAD].address}:{kuberay.DASHBOARD_PORT}"

    @property
    def gateway_url(self) -> str:
        return f"http://{self.pods[GATEWAY].address}:8080"

    @property
    def client_key(self) -> str:
        return secret(self.rendered, f"{self.rendered.release}-keys")["client"]

    @property
    def state_url(self) -> str:
        password = secret(self.rendered, f"{self.rendered.release}-redis-state")["state-password"]
        return f"redis://:{password}@{self.network.addresses['redis-state']}:6379"

    async def leases(self) -> dict[str, Lease]:
        """The lease of each pool; each has one replica."""
        async with self.store() as store:
            return {lease.pool: lease for lease in await store.leases()}

    async def leases_of_all(self) -> dict[str, Lease] | None:
        """The leases, once every pool has one."""
        leases = await self.leases()
        return leases if len(leases) == len(self.served) else None

    @property
    def served(self) -> list[str]:
        """The pools' names."""
        config = yaml.safe_load(self.rendered.one("ConfigMap", component="gateway").body["data"]["config.yaml"])
        return [pool["name"] for pool in config["pools"]]

    async def reports(self) -> tuple[ReplicaReport, ...]:
        async with self.store() as store:
            return await store.reports()

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[LeaseStore]:
        client = connect(self.state_url)
        try:
            yield LeaseStore(client, self.rendered.release)
        finally:
            await client.aclose()

    async def submit(self, rendered: Rendered) -> None:
        """Submit a render's serveConfigV2 as the operator does: again, until it is taken."""
        serve_config = rendered.one("RayService").spec["serveConfigV2"]

        async def taken() -> bool:
            refusal = await kuberay.submit(self.dashboard, serve_config)
            if refusal is not None:
                log.warning("Ray's dashboard refused the applications: %s", refusal)
            return refusal is None

        await until(taken, timeout_s=SUBMIT_LIMIT_S, what="Ray's dashboard takes the applications")

    async def answers(self, pod: Pod, probe: dict[str, Any]) -> str | None:
        """What is wrong with a pod's probe as the kubelet makes it; None where it passes."""
        target = probe["httpGet"]
        url = f"http://{pod.address}:{pod.view.port(target['port'])}{target['path']}"
        async with httpx.AsyncClient(timeout=probe.get("timeoutSeconds", 1)) as http:
            try:
                answer = await http.get(url)
            except httpx.HTTPError as error:
                return f"{url}: {error!r}"
        return None if answer.is_success else f"{url}: {answer.status_code} {answer.text[:200]}"


@contextlib.contextmanager
def two_nodes(rendered: Rendered, folder: Path) -> Iterator[Nodes]:
    """The cluster of a render, ready to serve; everything of it is gone at the end."""
    views = {
        view.owner.name if view.component == "test" else view.role.replace(" ", "-"): view
        for view in pods(rendered)
        if view.component != "model-prefetch"
    }
    workers = [name for name, view in views.items() if view.group is not None]
    with pod_network([*views, KUBELET]) as network, contextlib.ExitStack() as stack:
        hosts = _hosts(rendered, views, network)
        made = {
            name: Pod(
                name=name,
                view=view,
                rendered=rendered,
                network=network,
                folder=folder / name,
                hosts=hosts,
                cores=_cores(workers.index(name), len(workers)) if name in workers else (),
            )
            for name, view in views.items()
        }
        kubelet = Resident(network.namespace(KUBELET))
        stack.callback(kubelet.close)
        nodes = Nodes(rendered=rendered, network=network, pods=made, kubelet=kubelet)
        for pod in made.values():
            stack.callback(pod.end)
        for name in STORES:
            made[name].start()
        kubelet.run(_stores_answer(nodes))
        _start_ray(nodes, HEAD)
        kubelet.run(_ready(nodes, HEAD))
        kubelet.run(nodes.submit(rendered))
        for name in workers:
            _start_ray(nodes, name)
        made[GATEWAY].start()
        for name in (*workers, GATEWAY):
            kubelet.run(_ready(nodes, name))
        kubelet.run(until(nodes.leases_of_all, timeout_s=ENGINES_LIMIT_S, what="both pools have a replica"))
        yield nodes


def _cores(number: int, workers: int) -> tuple[int, ...]:
    """The cores of one worker of several: machines share none, and an engine of one must not starve another's."""
    usable = sorted(os.sched_getaffinity(0))
    return tuple(usable[number % len(usable) :: workers])


async def _stores_answer(nodes: Nodes) -> None:
    for name in STORES:
        passwords = secret(nodes.rendered, f"{nodes.rendered.release}-{name}")

        async def answers(name: str = name, password: str = next(iter(passwords.values()))) -> bool:
            async with Redis.from_url(f"redis://:{password}@{nodes.network.addresses[name]}:6379") as client:
                with contextlib.suppress(RedisError, OSError):
                    return bool(await client.ping())
            return False

        await until(answers, timeout_s=PROBE_LIMIT_S, what=f"{name} answers")


def _start_ray(nodes: Nodes, name: str) -> None:
    pod, namespace = nodes.pods[name], nodes.rendered.namespace
    pod.start(
        command=kuberay.ray_command(pod.view, namespace), environment=kuberay.ray_variables(pod.view, nodes.rendered)
    )


async def _ready(nodes: Nodes, name: str) -> None:
    pod = nodes.pods[name]

    async def passes() -> bool:
        assert not pod.has_ended(), f"{name} ended:\n{pod.log(pod.view.main['name']).read_text()[-4000:]}"
        return await nodes.answers(pod, pod.view.main["startupProbe"]) is None

    await until(passes, timeout_s=PROBE_LIMIT_S, what=f"{name} passes its startup probe")


def _hosts(rendered: Rendered, views: dict[str, PodView], network: PodNetwork) -> str:
    """Names of Services, each at the address of the pod that it selects."""
    lines = []
    for service in rendered.by_kind("Service"):
        for name, view in views.items():
            if selects({"matchLabels": service.spec["selector"]}, view.labels):
                short = f"{service.name}.{rendered.namespace}"
                names = f"{short}.svc.cluster.local {short}.svc {short} {service.name}"
                lines.append(f"{network.addresses[name]} {names}")
    lines.append(f"{network.addresses[HEAD]} {kuberay.head_names(views[HEAD], rendered.namespace)}")
    return "\n".join(lines) + "\n"
