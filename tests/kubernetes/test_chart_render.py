"""The chart through helm 3 and helm 4: lint, render, strict validation, the operator's rules, package, dry releases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kubernetes.cases import ALL, EVERYTHING, EXAMPLES, LEAST, Case, merged
from tests.kubernetes.operator_rules import violations
from tests.kubernetes.ray_service import RayService
from tests.kubernetes.releases import Cluster, cluster
from tests.kubernetes.render import CHART, Manifest, Rendered, Renderer
from tests.kubernetes.schemas import Schemas
from tests.kubernetes.tools import HelmMajor

KUBE_VERSIONS = ("1.31.0", "1.37.0")
MAJORS: tuple[HelmMajor, ...] = ("3", "4")
UNRENDERED = re.compile(r"%!\w?\(|<no value>|\bmap\[|<nil>|\{\{")
"""What Go leaves in a text when a template or a format went wrong."""

each_case = pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
each_helm = pytest.mark.parametrize("helm", MAJORS)


@pytest.fixture(scope="module")
def somewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("releases")) as running:
        yield running


def comparable(rendered: Rendered) -> dict[tuple[str, str], Any]:
    """Objects by kind and name; what is in a Secret is made anew every time."""
    return {(one.kind, one.name): None if one.kind == "Secret" else one.body for one in rendered}


def test_there_are_examples() -> None:
    if CHART.exists():
        assert len(EXAMPLES) >= 6


@each_helm
@each_case
def test_lint(render: Renderer, case: Case, helm: HelmMajor) -> None:
    render.helms[helm].run("lint", "--strict", str(CHART), *render.files(*case.values))


@each_case
def test_every_object_is_valid(render: Renderer, schemas: Schemas, case: Case) -> None:
    rendered = case.render(render)
    assert rendered.objects
    assert schemas.all_errors(rendered) == []


@each_case
def test_the_operator_accepts_every_ray_service(render: Renderer, case: Case) -> None:
    services = case.render(render).by_kind("RayService")
    assert [line for one in services for line in violations(RayService.of(one))] == []


@each_case
def test_helm_and_kubernetes_versions_make_no_difference(render: Renderer, case: Case) -> None:
    first = comparable(case.render(render))
    for helm in MAJORS:
        for kube_version in KUBE_VERSIONS:
            assert comparable(case.render(render, helm=helm, kube_version=kube_version)) == first


@each_case
def test_no_object_is_there_twice_and_all_are_in_the_namespace(render: Renderer, case: Case) -> None:
    rendered = case.render(render)
    keys = [(one.api_version, one.kind, one.name) for one in rendered]
    assert len(set(keys)) == len(keys)
    assert {one.body["metadata"].get("namespace") for one in rendered} <= {rendered.namespace, None}


@each_case
def test_no_template_went_wrong(render: Renderer, case: Case) -> None:
    assert UNRENDERED.findall(_without_dashboards(case.render(render))) == []


def test_a_kubernetes_that_is_too_old_is_refused(render: Renderer) -> None:
    with pytest.raises(Exception, match=r"incompatible with Kubernetes v1\.30"):
        render(LEAST, kube_version="1.30.0")


@each_helm
def test_package(render: Renderer, helm: HelmMajor, tmp_path: Path) -> None:
    said = render.helms[helm].run("package", str(CHART), "--destination", str(tmp_path))
    (archive,) = tmp_path.glob("longreach-*.tgz")
    assert archive.name in said
    packed = Renderer(helms=render.helms, scratch=tmp_path, chart=archive)
    assert comparable(packed(EVERYTHING, helm=helm)) == comparable(render(EVERYTHING, helm=helm))


@each_helm
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_dry_install(render: Renderer, somewhere: Cluster, path: Path, helm: HelmMajor) -> None:
    said = somewhere.install(render.helms[helm], CHART, "--values", str(path))
    assert "STATUS: pending-install" in said
    _, notes = said.split("\nNOTES:\n")
    assert "longreach" in notes
    assert UNRENDERED.findall(notes) == []


@each_helm
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_dry_upgrade(render: Renderer, somewhere: Cluster, path: Path, helm: HelmMajor) -> None:
    """Of a release of this very chart, whose objects helm then reads and compares."""
    installed = render(path, helm=helm)
    said = somewhere.upgrade(render.helms[helm], CHART, "--values", str(path), installed=installed)
    assert "has been upgraded" in said


@each_helm
def test_a_dry_upgrade_of_nothing_installs(render: Renderer, somewhere: Cluster, helm: HelmMajor) -> None:
    said = somewhere.upgrade(render.helms[helm], CHART, *render.files(LEAST))
    assert "does not exist. Installing it now" in said


def test_notes_name_what_was_asked_for(render: Renderer, somewhere: Cluster) -> None:
    plain = somewhere.install(render.helms["4"], CHART, *render.files(LEAST)).split("\nNOTES:\n")[1]
    assert "port-forward" in plain
    routed = merged(LEAST, {"gateway": {"ingress": {"enabled": True, "hosts": ["llm.example.com"]}}})
    assert (
        "llm.example.com" in somewhere.install(render.helms["4"], CHART, *render.files(routed)).split("\nNOTES:\n")[1]
    )


def _without_dashboards(rendered: Rendered) -> str:
    """A dashboard's queries have braces of their own."""
    kept: list[Manifest] = [one for one in rendered if one.component != "dashboards" and one.kind != "PrometheusRule"]
    return yaml.safe_dump([one.body for one in kept])
