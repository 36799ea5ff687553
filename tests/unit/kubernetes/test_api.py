"""The wire: pages, faults in words, bounds. The official client over a real socket, TLS and all."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import SetupError
from cluster.kubernetes import api as module
from cluster.kubernetes.api import PAGE_OBJECTS, ClusterApi, ExpiredError
from cluster.kubernetes.connection import Target, connected
from cluster.kubernetes.faults import AbsentError, CredentialsError, DeniedError, UnreachableError
from cluster.kubernetes.resources import NODES, PODS, RAY_SERVICES
from cluster.sockets import free_port
from tests.authority import Authority
from tests.kube_api import USER, Cluster, Endpoint
from tests.unit.kubernetes import objects as made

Put = Callable[[dict[str, Any]], None]


def test_a_list_is_read_in_pages_each_with_a_limit(api: ClusterApi, cluster: Cluster, put: Put) -> None:
    for number in range(10):
        put(made.node(f"more-{number}"))
    cluster.page_max = 4
    assert len(api.read(NODES)) == 13
    pages = [query for _, path, query in cluster.requests if path == "/api/v1/nodes"]
    assert [query["limit"] for query in pages] == [str(PAGE_OBJECTS)] * 4
    assert ["continue" in query for query in pages] == [False, True, True, True]


def test_a_list_whose_place_was_forgotten_is_read_anew(api: ClusterApi, cluster: Cluster) -> None:
    cluster.page_max = 1
    cluster.expire_once = True
    assert [node["metadata"]["name"] for node in api.read(NODES)] == ["l4-a", "l4-b", "cpu-a"]


def test_a_list_that_is_forgotten_every_time_is_given_up(api: ClusterApi, cluster: Cluster) -> None:
    cluster.page_max = 1
    tries = 0

    def count(found: Any) -> None:
        nonlocal tries
        tries += 1
        cluster.expire_once = True
        list(found)

    with pytest.raises(ExpiredError):
        api.reduce(NODES, count)
    assert tries == module.LIST_TRIES


def test_a_list_without_end_is_given_up(api: ClusterApi, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.page_max = 1
    monkeypatch.setattr(module, "PAGES_MAX", 2)
    with pytest.raises(UnreachableError, match="more than"):
        api.read(NODES)


def test_selectors_reach_the_server(api: ClusterApi) -> None:
    labels = f"app.kubernetes.io/instance={made.RELEASE}"
    names = {pod["metadata"]["name"] for pod in api.read(PODS, namespace=made.NAMESPACE, labels=labels)}
    assert names == {"prod-a1b2c-head", "prod-a1b2c-l4-worker-x", "prod-gateway-1"}
    assert len(api.read(PODS)) == 4


def test_a_denial_names_verb_resource_namespace_and_the_rule(api: ClusterApi, cluster: Cluster) -> None:
    cluster.roles = ()
    with pytest.raises(DeniedError) as caught:
        api.read(PODS, namespace="longreach")
    assert caught.value.problem == f"{USER} may not list pods in namespace longreach (403)"
    assert caught.value.remedy == (
        "have a cluster admin add this rule to a Role in namespace longreach: "
        '{apiGroups: [""], resources: [pods], verbs: [list]}'
    )
    with pytest.raises(DeniedError, match="in the whole cluster") as wide:
        api.read(RAY_SERVICES)
    assert 'a ClusterRole: {apiGroups: ["ray.io"], resources: [rayservices], verbs: [list]}' in wide.value.remedy


def test_a_kind_and_an_object_that_are_not_there(api: ClusterApi, cluster: Cluster) -> None:
    del cluster.kinds["ray.io", "v1"]
    with pytest.raises(AbsentError, match="no such API"):
        api.read(RAY_SERVICES, namespace="longreach")
    with pytest.raises(AbsentError, match='"nowhere" not found'):
        api.get(NODES, "nowhere")


@pytest.mark.parametrize("user", [{"token": None}, {"token": "expired"}])
def test_credentials_that_are_missing_or_expired(endpoint: Endpoint, tmp_path: Path, user: dict[str, Any]) -> None:
    kubeconfig = endpoint.kubeconfig(tmp_path / "other", **user)
    with connected(Target(kubeconfig=kubeconfig), {}) as api, pytest.raises(CredentialsError, match="log in again"):
        api.read(NODES)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, "<html>please log in</html>"), "does not answer in JSON"),
        ((404, "<html>not here</html>"), "not as a Kubernetes API"),
        ((502, "bad gateway"), "502"),
        ((302, ""), "302"),
    ],
)
def test_what_is_no_api_server_is_said_to_be_none(
    api: ClusterApi, cluster: Cluster, answer: tuple[int, str], words: str
) -> None:
    cluster.broken["/api/v1/nodes"] = answer
    with pytest.raises(UnreachableError, match=words) as caught:
        api.read(NODES)
    assert "proxy or a login page" in caught.value.remedy


def test_an_overloaded_server_is_quoted(api: ClusterApi, cluster: Cluster) -> None:
    status = {"kind": "Status", "status": "Failure", "message": "too many requests", "code": 429}
    cluster.broken["/api/v1/nodes"] = (429, status)  # type: ignore[assignment]
    with pytest.raises(UnreachableError, match="429 at /api/v1/nodes: too many requests"):
        api.read(NODES)
    assert len(cluster.requests) == 1, "a refusal is not retried behind the caller's back"


def test_no_server_at_all(endpoint: Endpoint, tmp_path: Path) -> None:
    kubeconfig = endpoint.kubeconfig(tmp_path / "other")
    nobody = f"https://localhost:{free_port()}"
    kubeconfig.write_text(kubeconfig.read_text().replace(endpoint.url, nobody))
    with connected(Target(kubeconfig=kubeconfig), {}) as api, pytest.raises(UnreachableError) as caught:
        api.read(NODES)
    assert "cannot be reached" in caught.value.problem
    assert "VPN" in caught.value.remedy


def test_another_authority_is_not_trusted(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    foreign = Authority(tmp_path / "foreign", "another-ca")
    kubeconfig = endpoint.kubeconfig(tmp_path / "other")
    kubeconfig.write_text(kubeconfig.read_text().replace(str(endpoint.ca_file), str(foreign.file)))
    with connected(Target(kubeconfig=kubeconfig), {}) as api, pytest.raises(UnreachableError) as caught:
        api.read(NODES)
    assert "cannot be trusted" in caught.value.problem
    assert "certificate-authority" in caught.value.remedy


def test_a_silent_server_is_given_up(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kubeconfig = endpoint.kubeconfig(tmp_path / "other")
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        kubeconfig.write_text(kubeconfig.read_text().replace(endpoint.url, url))
        with connected(Target(kubeconfig=kubeconfig), {}) as api, pytest.raises(SetupError, match=r"within 0\.2 s"):
            api.read(NODES)


def test_an_answer_without_end_is_given_up(api: ClusterApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_BYTES_MAX", 100)
    with pytest.raises(UnreachableError, match="over 100 bytes"):
        api.read(NODES)
