"""The renderer, the dry runs and the schemas themselves, on a chart of a few lines."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import yaml

from tests.kubernetes import artifacts
from tests.kubernetes.crds import shrink
from tests.kubernetes.render import ROOT, Manifest, Renderer, RenderError
from tests.kubernetes.schemas import Schemas
from tests.kubernetes.tools import HelmMajor

CRDS = ROOT.parent / "shared" / "crds"
TEMPLATE = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
  labels: {app.kubernetes.io/component: one}
data:
  kubernetes: {{ .Capabilities.KubeVersion.Version | quote }}
  monitored: {{ .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" | quote }}
  answer: {{ required "the answer is missing" .Values.answer | quote }}
"""


@pytest.fixture
def small(any_chart: Callable[..., Renderer], tmp_path: Path) -> Callable[[str], Renderer]:
    """A chart of one template."""

    def make(template: str) -> Renderer:
        (tmp_path / "templates").mkdir()
        (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: small, version: 0.1.0}")
        (tmp_path / "templates" / "one.yaml").write_text(template)
        return any_chart(tmp_path)

    return make


@pytest.mark.parametrize("helm", ["3", "4"])
def test_values_versions_and_capabilities_reach_helm(small: Callable[[str], Renderer], helm: HelmMajor) -> None:
    render = small(TEMPLATE)
    data = (
        render({"answer": 1}, {"answer": 42}, release="r", kube_version="1.31.0", helm=helm)
        .one("ConfigMap")
        .body["data"]
    )
    assert data == {"kubernetes": "v1.31.0", "monitored": "true", "answer": "42"}
    bare = render({"answer": 1}, api_versions=(), helm=helm).one("ConfigMap", component="one")
    assert bare.body["data"]["monitored"] == "false"
    assert bare.source == "small/templates/one.yaml"


@pytest.mark.parametrize("helm", ["3", "4"])
def test_helms_own_words_reach_the_test(small: Callable[[str], Renderer], helm: HelmMajor) -> None:
    render = small(TEMPLATE)
    for _ in range(2):
        with pytest.raises(RenderError, match="the answer is missing"):
            render(helm=helm)


def test_a_key_that_is_there_twice_is_refused(small: Callable[[str], Renderer]) -> None:
    with pytest.raises(yaml.YAMLError, match="'a' is there twice"):
        small("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: b\n  a: c\n")()


def manifest(api_version: str, kind: str, spec: dict[str, Any]) -> Manifest:
    return Manifest(body={"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}, "spec": spec}, source="x")


POLICY = {"podSelector": {}}
ROUTE = {"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [{"name": "s", "port": 80}]}]}
MONITOR = {"selector": {}, "endpoints": [{"port": "admin", "interval": "15s"}]}
RULES = {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": "up", "for": "5m"}]}]}
CERTIFICATE = {"secretName": "s", "issuerRef": {"name": "i"}, "dnsNames": ["a"]}
RAY_CLUSTER = {"headGroupSpec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}}
RAY = {"rayClusterConfig": RAY_CLUSTER}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (("networking.k8s.io/v1", "NetworkPolicy", POLICY), {"podSelector": {}, "ingres": []}),
        (("gateway.networking.k8s.io/v1", "HTTPRoute", ROUTE), ROUTE | {"hostnames": ["A_"]}),
        (("gateway.networking.k8s.io/v1", "GRPCRoute", ROUTE), ROUTE | {"host": "a"}),
        (("monitoring.coreos.com/v1", "ServiceMonitor", MONITOR), MONITOR | {"endpoints": [{"interval": "15x"}]}),
        (("monitoring.coreos.com/v1", "PrometheusRule", RULES), {"groups": [{"name": "g", "rules": [{"alert": "A"}]}]}),
        (("cert-manager.io/v1", "Certificate", CERTIFICATE), CERTIFICATE | {"dnsName": "a"}),
        (("ray.io/v1", "RayService", RAY), RAY | {"rayClusterSpec": {}}),
        (("ray.io/v1", "RayCluster", RAY_CLUSTER), {"headGroupSpec": {"template": {"spec": {"containers": [{}]}}}}),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_schemas_are_strict(schemas: Schemas, right: tuple[str, str, dict[str, Any]], wrong: dict[str, Any]) -> None:
    api_version, kind, spec = right
    assert schemas.all_errors([manifest(api_version, kind, spec)]) == []
    assert schemas.all_errors([manifest(api_version, kind, wrong)])


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [("example.com/v1", "Thing"), ("policy/v1beta1", "PodDisruptionBudget"), ("apps/v2", "Deployment"), ("v1", "Job")],
)
def test_unknown_kinds_and_removed_versions_are_refused(schemas: Schemas, api_version: str, kind: str) -> None:
    (found, *_) = schemas.all_errors([manifest(api_version, kind, {})])
    assert f"has no {kind} in {api_version}" in found


@pytest.mark.skipif(not CRDS.exists(), reason="needs KubeRay's CRDs in ../shared/crds")
@pytest.mark.parametrize("kind", shrink.KINDS)
def test_the_crds_here_are_kuberays(kind: str) -> None:
    made = shrink.shrunk(shrink.upstream_path(CRDS, kind))
    # Another zlib may pack the same text otherwise.
    assert gzip.decompress(made) == gzip.decompress(shrink.kept_path(kind).read_bytes())


@pytest.mark.parametrize("right", [True, False])
def test_a_package_is_unpacked_only_with_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: bool) -> None:
    wheel = tmp_path / "small-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("small-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: small\nVersion: 1\n")
        archive.writestr("small-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("small-1.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest() if right else "0" * 64
    monkeypatch.setenv("LONGREACH_PIP_ARGS", f"--no-index --find-links {tmp_path}")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path / "cache")
    unpacked: list[str] = []
    package = artifacts.Wheel(name="small", version="1", sha256=digest)
    if right:
        for _ in range(2):
            folder = artifacts.unpacked(package, lambda path, _: unpacked.append(path.name))
        assert folder.is_dir()
        assert unpacked == [wheel.name]
    else:
        with pytest.raises(artifacts.AlteredError, match="pinned is 0000"):
            artifacts.unpacked(package, lambda path, _: unpacked.append(path.name))
        assert unpacked == []


def test_a_package_that_no_registry_has_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGREACH_PIP_ARGS", f"--no-index --find-links {tmp_path}")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path / "cache")
    with pytest.raises(artifacts.UnreachableError, match="No matching distribution"):
        artifacts.unpacked(artifacts.Wheel(name="small", version="1", sha256=""), lambda *_: None)
