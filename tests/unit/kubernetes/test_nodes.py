"""From nodes and pods to the inventory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from cluster.core.errors import SetupError
from cluster.kubernetes.inventory import Inventory, inventory_from_json, inventory_to_dict
from cluster.kubernetes.nodes import inventory_of
from cluster.kubernetes.usage import pod_requests, used_by_node
from tests.unit.kubernetes import objects as made

GIB = 2**30
Ran = Any
Put = Callable[[dict[str, Any]], None]
Check = Callable[[dict[str, Any]], dict[str, Any]]


def inventory(check: Check, *nodes: dict[str, Any], pods: tuple[dict[str, Any], ...] = ()) -> Inventory:
    return inventory_of([check(node) for node in nodes], used_by_node(check(pod) for pod in pods))


def test_free_is_what_pods_do_not_request(check: Check) -> None:
    found = inventory(
        check,
        made.node("a", made.L4, gpus=4, cpu="8", memory="32Gi"),
        made.node("b", made.L4, gpus=2),
        made.node("plain", cpu="4", memory="8Gi"),
        pods=(
            made.pod("x", node_name="a", gpus=3, requests={"cpu": "2500m", "memory": "20Gi"}),
            made.pod("done", node_name="b", gpus=2, phase="Succeeded"),
            made.pod("waits", gpus=5, phase="Pending", waiting={"reason": "ContainerCreating"}),
        ),
    )
    (kind,) = found.kinds()
    assert (kind.product, kind.allocatable, kind.free, kind.zones) == ("NVIDIA-L4", 6, 3, ("eu-1a",))
    assert kind.memory_bytes == 23_034 * 2**20
    first = found.gpus[0]
    assert (first.cpu_free_milli, first.memory_free_bytes, first.compute) == (5500, 12 * GIB, (8, 9))
    assert found.waiting_gpus == 5
    assert (found.cpu.nodes, found.cpu.largest_memory_free_bytes) == (1, 8 * GIB)


def test_a_node_that_takes_no_pods_has_nothing_free(check: Check) -> None:
    found = inventory(
        check, made.node("a", made.L4, gpus=4, is_cordoned=True), made.node("b", made.L4, gpus=4, is_ready=False)
    )
    assert [(gpus.free, gpus.takes_pods) for gpus in found.gpus] == [(0, False), (0, False)]


def test_taints_of_the_nodes_own_health_need_no_toleration(check: Check) -> None:
    unreachable = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
    soft = {"key": "soft", "effect": "PreferNoSchedule"}
    found = inventory(check, made.node("a", made.L4, gpus=1, taints=[made.GPU_TAINT, unreachable, soft]))
    assert [taint.text() for taint in found.gpus[0].taints] == ["nvidia.com/gpu=present:NoSchedule"]


def test_slices_of_a_card_are_a_kind_of_their_own(check: Check) -> None:
    labels = {**made.H100, "nvidia.com/mig-3g.40gb.memory": "40320", "nvidia.com/mig-3g.40gb.replicas": "1"}
    found = inventory(check, made.node("a", labels, gpus=2, resource="nvidia.com/mig-3g.40gb"))
    (kind,) = found.kinds()
    assert (kind.resource, kind.memory_bytes, kind.free) == ("nvidia.com/mig-3g.40gb", 40_320 * 2**20, 2)


def test_time_slices_are_seen(check: Check) -> None:
    shared = {**made.L4, "nvidia.com/gpu.product": "NVIDIA-L4-SHARED", "nvidia.com/gpu.replicas": "4"}
    assert inventory(check, made.node("a", shared, gpus=4)).gpus[0].shared_by == 4


def test_without_feature_discovery_the_clouds_label_helps(check: Check) -> None:
    found = inventory(
        check,
        made.node("a", {"cloud.google.com/gke-accelerator": "nvidia-l4"}, gpus=1),
        made.node("b", {"cloud.google.com/gke-accelerator": "nvidia-of-tomorrow"}, gpus=1),
        made.node("c", gpus=1),
    )
    told = {gpus.node: (gpus.product, gpus.memory_bytes, gpus.selector) for gpus in found.gpus}
    assert told["a"] == ("nvidia-l4", 23_034 * 2**20, (("cloud.google.com/gke-accelerator", "nvidia-l4"),))
    assert told["b"][1] is None
    assert told["c"] == ("", None, ())


def test_other_accelerators_are_named(check: Check) -> None:
    assert inventory(check, made.node("a", gpus=8, resource="amd.com/gpu")).other_accelerators == ("amd.com/gpu",)


def test_the_json_comes_back_the_same(check: Check) -> None:
    found = inventory(check, made.node("a", made.L4, gpus=4, taints=[made.GPU_TAINT]), made.node("b", gpus=1))
    text = json.dumps(inventory_to_dict(found))
    assert inventory_from_json(text, origin="x") == found


@pytest.mark.parametrize("text", ["", "[]", '{"gpus": [{}]}', '{"gpus": [], "cpu": {}, "format": 9}'])
def test_a_file_that_is_no_inventory_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match="inventory --json"):
        inventory_from_json(text, origin="x.json")


def test_what_a_pod_takes_is_the_schedulers_sum() -> None:
    def one(cpu: str, **more: Any) -> dict[str, Any]:
        return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}

    assert pod_requests({"containers": [one("1"), one("500m")]}) == Counter(cpu=1500)
    assert pod_requests({"containers": [one("1")], "initContainers": [one("3")]}) == Counter(cpu=3000)
    sidecar = one("1", restartPolicy="Always")
    assert pod_requests({"containers": [one("1")], "initContainers": [sidecar, one("3")]}) == Counter(cpu=4000)
    assert pod_requests({"containers": [one("3")], "initContainers": [one("3"), sidecar]}) == Counter(cpu=4000)
    assert pod_requests({"containers": [one("1")], "overhead": {"cpu": "250m"}}) == Counter(cpu=1250)
    limited = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": "2"}}}
    assert pod_requests({"containers": [limited]}) == Counter({"nvidia.com/gpu": 2})
    assert pod_requests({"containers": [one("1")], "resources": {"requests": {"cpu": "2"}}}) == Counter(cpu=2000)


def test_the_command_shows_kinds_and_nodes(k8s: Callable[..., Ran]) -> None:
    table = k8s("inventory")
    assert table.exit_status == 0
    assert "NVIDIA-L4 5 8 2 22.5 GiB eu-1a nvidia.com/gpu=present:NoSchedule" in table.words
    found = k8s("inventory", "--json").json
    assert found["kinds"][0]["free"] == 5
    assert [gpus["free"] for gpus in found["gpus"]] == [3, 2]


def test_without_the_right_to_see_pods_it_says_so(k8s: Callable[..., Ran], cluster: Any) -> None:
    nodes = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}
    cluster.roles = [{"kind": "ClusterRole", "rules": [nodes]}]
    found = k8s("inventory", "--json").json
    assert found["kinds"][0]["free"] == 8
    assert 'a ClusterRole: {apiGroups: [""], resources: [pods], verbs: [list]}' in found["notes"][0]
