"""The chart as helm renders it: objects to look at, or helm's own words where it refuses.

What must not live here: what is right or wrong with an object (schemas.py, operator_rules.py, the tests).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.tools import HelmMajor, Tool, ToolError

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "longreach"
KUBE_VERSION = "1.37.0"
API_VERSIONS = (
    "ray.io/v1",
    "ray.io/v1/RayService",
    "gateway.networking.k8s.io/v1",
    "gateway.networking.k8s.io/v1/HTTPRoute",
    "gateway.networking.k8s.io/v1/GRPCRoute",
    "monitoring.coreos.com/v1",
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
    "monitoring.coreos.com/v1alpha1",
    "monitoring.coreos.com/v1alpha1/ScrapeConfig",
    "cert-manager.io/v1",
    "cert-manager.io/v1/Certificate",
)
"""A cluster with every operator that the chart can use: KubeRay, the Gateway API, Prometheus, cert-manager."""

Values = Path | Mapping[str, Any]


class RenderError(Exception):
    """Helm refused; the text is its message."""


class _StrictLoader(yaml.CSafeLoader):
    """Refuses a key that is there twice, of which Kubernetes would keep one without a word."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    pairs = loader.construct_pairs(node, deep=True)
    twice = [key for position, (key, _) in enumerate(pairs) if key in [before for before, _ in pairs[:position]]]
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is there twice", node.start_mark)
    return dict(pairs)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One rendered object."""

    body: dict[str, Any]
    source: str
    """The template that it came from."""

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def api_version(self) -> str:
        return str(self.body["apiVersion"])

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def labels(self) -> dict[str, str]:
        return self.body["metadata"].get("labels") or {}

    @property
    def annotations(self) -> dict[str, str]:
        return self.body["metadata"].get("annotations") or {}

    @property
    def component(self) -> str | None:
        return self.labels.get("app.kubernetes.io/component")

    @property
    def spec(self) -> dict[str, Any]:
        return self.body.get("spec") or {}

    def __str__(self) -> str:
        return f"{self.kind}/{self.name} ({self.source})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """Everything one `helm template` wrote."""

    objects: tuple[Manifest, ...]
    release: str
    namespace: str
    kube_version: str
    values: tuple[Values, ...]
    text: str = field(repr=False)

    def __iter__(self) -> Iterator[Manifest]:
        return iter(self.objects)

    def by_kind(self, *kinds: str, component: str | None = None) -> list[Manifest]:
        """Objects of these kinds, of one component where it is named."""
        return [one for one in self if one.kind in kinds and component in {None, one.component}]

    def one(self, kind: str, *, component: str | None = None, name: str | None = None) -> Manifest:
        """The only object of a kind, of that component or name."""
        found = [one for one in self.by_kind(kind, component=component) if name in {None, one.name}]
        described = f"{kind} component={component} name={name}"
        assert len(found) == 1, f"{len(found)} of {described} in {[str(one) for one in self.by_kind(kind)]}"
        return found[0]

    def has(self, kind: str, *, component: str | None = None) -> bool:
        return bool(self.by_kind(kind, component=component))


@dataclass(frozen=True, slots=True, kw_only=True)
class Renderer:
    """Renders a chart, each set of values once."""

    helms: Mapping[HelmMajor, Tool]
    scratch: Path
    """An empty folder for values that come as a mapping."""
    chart: Path = CHART
    _kept: dict[str, Rendered | RenderError] = field(default_factory=dict, repr=False)

    def __call__(
        self,
        *values: Values,
        release: str = "longreach",
        namespace: str = "serving",
        kube_version: str = KUBE_VERSION,
        api_versions: tuple[str, ...] = API_VERSIONS,
        helm: HelmMajor = "4",
    ) -> Rendered:
        """What `helm template` makes of values, of which later ones win over earlier ones.

        Raises:
            RenderError: helm refuses, with its message.
            yaml.YAMLError: what it wrote is not YAML, or names a key twice.
        """
        options = ["--namespace", namespace, "--kube-version", kube_version]
        options += [word for api in api_versions for word in ("--api-versions", api)]
        key = json.dumps([helm, release, options, [_readable(one) for one in values]], default=str)
        if key not in self._kept:
            arguments = ["template", release, str(self.chart), *options, *self.files(*values)]
            try:
                text = self.helms[helm].run(*arguments)
            except ToolError as error:
                self._kept[key] = RenderError(str(error))
            else:
                self._kept[key] = Rendered(
                    objects=tuple(parse(text)),
                    release=release,
                    namespace=namespace,
                    kube_version=kube_version,
                    values=values,
                    text=text,
                )
        kept = self._kept[key]
        if isinstance(kept, RenderError):
            raise RenderError(*kept.args)
        return kept

    def files(self, *values: Values) -> list[str]:
        """Helm's arguments for values, which are written to files where they come as a mapping."""
        arguments = []
        for one in values:
            path = one
            if not isinstance(path, Path):
                text = json.dumps(one)
                path = self.scratch / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
                path.write_text(text, encoding="utf-8")
            arguments += ["--values", str(path)]
        return arguments


def parse(text: str) -> Iterator[Manifest]:
    """The objects in what `helm template` wrote, each with its template."""
    for document in re.split(r"^---$", text, flags=re.MULTILINE):
        body = yaml.load(document, Loader=_StrictLoader)
        if body is None:
            continue
        source = re.search(r"^# Source: (.+)$", document, re.MULTILINE)
        where = source[1] if source else "?"
        assert isinstance(body, dict), f"{where} wrote {type(body).__name__}, not an object"
        missing = [key for key in ("apiVersion", "kind", "metadata") if not body.get(key)]
        assert not missing, f"{where} wrote an object without {missing}"
        yield Manifest(body=body, source=where)


def _readable(value: Values) -> Any:
    return value.read_text(encoding="utf-8") if isinstance(value, Path) else value
