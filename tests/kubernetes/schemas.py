"""Strict validation of rendered objects: unknown fields, kinds, groups and versions are all errors.

Kubernetes' own kinds against its published JSON schemas, Ray's against KubeRay's CRDs, those of the Gateway API, the
Prometheus operator and cert-manager against the declarations made from their Go types. CEL rules of CRDs are not
evaluated. What must not live here: what the KubeRay operator checks itself, how objects refer to each other.
"""

from __future__ import annotations

import copy
import gzip
import json
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema_rs

from tests.kubernetes.artifacts import NpmTarball, Wheel, unpacked
from tests.kubernetes.crds.shrink import KINDS, kept_path
from tests.kubernetes.declarations import declarations, reference
from tests.kubernetes.render import Manifest

KUBE_VERSIONS = ("1.31.0", "1.34.0", "1.37.0")
KUBERNETES = Wheel(
    name="kubernetes-validate",
    version="1.37.0",
    sha256="85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9",
)
PROMETHEUS = NpmTarball(
    name="@kubernetes-models/prometheus-operator",
    version="6.0.0",
    sha256="e92402ebff400ea1ca5fe60546554841ab6f5986b317f3f0d4cb756dc88fbd37",
)
MODELS = {
    "gateway.networking.k8s.io/v1": NpmTarball(
        name="@kubernetes-models/gateway-api",
        version="2.0.0",
        sha256="505c284b74d2f71803803543816abe3fe58e4b0ec6d98f3bd4989726d469b81b",
    ),
    "monitoring.coreos.com/v1": PROMETHEUS,
    "monitoring.coreos.com/v1alpha1": PROMETHEUS,
    "cert-manager.io/v1": NpmTarball(
        name="@kubernetes-models/cert-manager",
        version="6.0.0",
        sha256="0e5bc3ff9c20a588abdfcc34590442cc40b3037d789ec74acb59119aac4fbfed",
    ),
}
MODEL_KINDS = {
    "cert-manager.io/v1": ("Certificate",),
    "gateway.networking.k8s.io/v1": ("Gateway", "HTTPRoute", "GRPCRoute", "ReferenceGrant"),
    "monitoring.coreos.com/v1": ("ServiceMonitor", "PodMonitor", "PrometheusRule"),
    "monitoring.coreos.com/v1alpha1": ("ScrapeConfig",),
}
REFINED: dict[str, dict[str, Any]] = {
    # What Go says in comments to its generators, which the declarations lack; from both projects' API references.
    "ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1Duration": {
        "type": "string",
        "pattern": r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
    },
    "IoK8sSigsGatewayApiApisV1Duration": {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"},
    "IoK8sSigsGatewayApiApisV1PortNumber": {"type": "integer", "minimum": 1, "maximum": 65_535},
    "IoK8sSigsGatewayApiApisV1Hostname": {
        "type": "string",
        "maxLength": 253,
        "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    },
    "IoK8sSigsGatewayApiApisV1HTTPRouteFilterType": {
        "enum": [
            "RequestHeaderModifier",
            "ResponseHeaderModifier",
            "RequestMirror",
            "RequestRedirect",
            "URLRewrite",
            "ExtensionRef",
            "CORS",
            "ExternalAuth",
        ]
    },
    "IoK8sSigsGatewayApiApisV1GRPCRouteFilterType": {
        "enum": ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"]
    },
}

Schema = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class _Kinds:
    """The schemas of one Kubernetes version, compiled as they are asked for."""

    definitions: dict[str, Schema]
    names: dict[tuple[str, str], str]
    compiled: dict[str, jsonschema_rs.Draft202012Validator] = field(default_factory=dict)

    def validator(self, api_version: str, kind: str) -> jsonschema_rs.Draft202012Validator | None:
        name = self.names.get((api_version, kind))
        if name is None:
            return None
        if name not in self.compiled:
            needed = _reached(self.definitions, name)
            self.compiled[name] = jsonschema_rs.Draft202012Validator({"$defs": needed, **reference(name)})
        return self.compiled[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schemas:
    """Every schema that an object of the chart may have to satisfy."""

    builtin: dict[str, _Kinds]
    custom: dict[tuple[str, str], tuple[Schema, jsonschema_rs.Draft202012Validator]]

    def errors(self, manifest: Manifest, kube_version: str) -> list[str]:
        """What is wrong with an object, one line each, for an API server of one of KUBE_VERSIONS."""
        key = (manifest.api_version, manifest.kind)
        body: Any = manifest.body
        if key in self.custom:
            schema, validator = self.custom[key]
            body = _defaulted(schema, copy.deepcopy(body))
        else:
            known = self.builtin[kube_version].validator(*key)
            if known is None:
                return [f"{manifest}: Kubernetes {kube_version} has no {manifest.kind} in {manifest.api_version}"]
            validator = known
        return [
            f"{manifest}: {'.'.join(map(str, error.instance_path)) or 'top'}: {error.message[:300]}"
            for error in validator.iter_errors(body)
        ]

    def all_errors(self, manifests: Iterable[Manifest], kube_versions: Iterable[str] = KUBE_VERSIONS) -> list[str]:
        """What is wrong with objects in any version, each finding once."""
        versions = tuple(kube_versions)
        return list(
            dict.fromkeys(line for one in manifests for version in versions for line in self.errors(one, version))
        )


def load() -> Schemas:
    """Read all schemas, those of packages out of the user's cache.

    Raises:
        UnreachableError: a package cannot be had here.
    """
    folder = unpacked(KUBERNETES, _extract_kubernetes)
    models = {api: unpacked(package, _extract_models) / api for api, package in MODELS.items()}
    builtin = {}
    for version in KUBE_VERSIONS:
        kinds = _kubernetes_kinds(folder / f"{version}.json")
        for api, path in models.items():
            _add_models(kinds, api, path)
        builtin[version] = kinds
    return Schemas(builtin=builtin, custom=dict(_custom(kind) for kind in KINDS))


def _extract_kubernetes(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for version in KUBE_VERSIONS:
            path = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/_definitions.json"
            (folder / f"{version}.json").write_bytes(archive.read(path))


def _extract_models(tarball: Path, folder: Path) -> None:
    """Only the declarations, and only below the package's own folder."""
    with tarfile.open(tarball) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if member.isfile() and member.name.endswith(".d.ts") and ".." not in path.parts:
                source = archive.extractfile(member)
                assert source is not None, f"{member.name} is not a file"
                target = folder.joinpath(*path.parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read())


def _kubernetes_kinds(path: Path) -> _Kinds:
    definitions = json.loads(path.read_text(encoding="utf-8"))["$defs"]
    names = {}
    for name, schema in definitions.items():
        for one in schema.get("x-kubernetes-group-version-kind", []):
            api_version = f"{one['group']}/{one['version']}" if one["group"] else one["version"]
            names[api_version, one["kind"]] = name
    # The declarations name Kubernetes' own types without the dots.
    definitions |= {_undotted(name): reference(name) for name in list(definitions)}
    return _Kinds(definitions=definitions, names=names)


def _add_models(kinds: _Kinds, api_version: str, folder: Path) -> None:
    own = declarations(folder, MODEL_KINDS[api_version])
    kinds.definitions |= own.schemas() | {name: schema for name, schema in REFINED.items() if name in own.aliases}
    kinds.names |= {(api_version, kind): name for kind, name in own.by_kind.items()}


def _undotted(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("."))


def _reached(definitions: dict[str, Schema], start: str) -> dict[str, Schema]:
    """Only the definitions that one leads to: all of them take seconds to compile."""
    found: dict[str, Schema] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = definitions[name]
            waiting += _references(definitions[name])
    return found


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for one in schema for name in _references(one)]
    if not isinstance(schema, dict):
        return []
    own = schema.get("$ref")
    here = [own.removeprefix("#/$defs/")] if isinstance(own, str) else []
    return here + [name for one in schema.values() for name in _references(one)]


def _custom(kind: str) -> tuple[tuple[str, str], tuple[Schema, jsonschema_rs.Draft202012Validator]]:
    crd = json.loads(gzip.decompress(kept_path(kind).read_bytes()))
    strict = _strict(crd["schema"])
    strict["properties"]["metadata"] = {"type": "object"}  # the API server's own business, which the CRD leaves open
    key = (f"{crd['group']}/{crd['version']}", crd["kind"])
    return key, (crd["schema"], jsonschema_rs.Draft202012Validator(strict))


def _strict(schema: Schema, *, closed: bool = True) -> Schema:
    """A structural OpenAPI schema as JSON schema, in which what the API server would prune is an error."""
    kept = {
        key: value
        for key, value in schema.items()
        if not key.startswith("x-kubernetes") and key not in {"nullable", "default", "format"}
    }
    if schema.get("x-kubernetes-int-or-string"):
        kept.pop("type", None)
        kept["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "properties" in kept:
        kept["properties"] = {name: _strict(one) for name, one in kept["properties"].items()}
        open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in kept
        if closed and not open_ended:
            kept["additionalProperties"] = False
    if isinstance(kept.get("additionalProperties"), dict):
        kept["additionalProperties"] = _strict(kept["additionalProperties"])
    if "items" in kept:
        kept["items"] = _strict(kept["items"])
    for key in ("allOf", "anyOf", "oneOf"):
        if key in kept:
            kept[key] = [_strict(one, closed=False) for one in kept[key]]
    if schema.get("nullable") and "type" in kept:
        kept["type"] = [kept["type"], "null"]
    return kept


def _defaulted(schema: Schema, body: Any) -> Any:
    """An object as the API server sees it when it validates: nulls dropped and defaults filled in."""
    if isinstance(body, list):
        return [_defaulted(schema.get("items", {}), one) for one in body]
    if not isinstance(body, dict):
        return body
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties")
    filled = {key: value for key, value in body.items() if value is not None or properties.get(key, {}).get("nullable")}
    for key, one in properties.items():
        if key not in filled and "default" in one:
            filled[key] = copy.deepcopy(one["default"])
    return {
        key: _defaulted(properties.get(key, others if isinstance(others, dict) else {}), value)
        for key, value in filled.items()
    }
