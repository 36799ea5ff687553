"""Values to render the chart with: its examples, and cases at its edges.

What must not live here: assertions.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.kubernetes.render import API_VERSIONS, CHART, Rendered, Renderer, Values

EXAMPLES = tuple(sorted((CHART / "examples").glob("*.yaml")))
LONGEST_RELEASE = "a-release-whose-name-has-every-character-helm-allows5"
"""53, helm's own limit."""
MODEL = "qwen3-4b-instruct-2507"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One set of values and how it is released."""

    name: str
    values: tuple[Values, ...]
    release: str = "longreach"
    api_versions: tuple[str, ...] = API_VERSIONS
    existing: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    """Kind and name of what the values say is there already."""

    def render(self, renderer: Renderer, **options: Any) -> Rendered:
        chosen = {"release": self.release, "api_versions": self.api_versions} | options
        return renderer(*self.values, **chosen)


def merged(*values: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merged as helm merges values: lists and scalars are replaced."""
    result: dict[str, Any] = {}
    for one in values:
        for key, value in one.items():
            old = result.get(key)
            both = isinstance(old, Mapping) and isinstance(value, Mapping)
            result[key] = merged(old, value) if both else copy.deepcopy(value)
    return result


def pool(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "model": MODEL, "context_tokens": 16384} | keys


def serving(*pools: dict[str, Any], groups: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    """The least values that serve these pools."""
    resources = {"requests": {"cpu": "4", "memory": "24Gi"}, "limits": {"cpu": "4", "memory": "24Gi"}}
    given = {"gpu": {"gpu": {"count": 1}}} if groups is None else groups
    return {
        "config": {"models": [{"id": MODEL}], "pools": list(pools)} | config,
        "workerGroups": {name: {"resources": resources} | group for name, group in given.items()},
    }


def secrets(*names: str) -> frozenset[tuple[str, str]]:
    return frozenset(("Secret", name) for name in names)


LEAST = serving(pool("chat"))
EVERYTHING = merged(
    serving(
        pool("chat", worker_group="gpu", replicas={"min": 1, "max": 4}, engine={"redis_tier": {"enabled": True}}),
        pool("long", context_tokens=262144, tensor_parallel=2, worker_group="large", replicas={"min": 1, "max": 2}),
        groups={
            "gpu": {"gpu": {"count": 1, "products": ["NVIDIA-L4"]}},
            "large": {"gpu": {"count": 2, "products": ["NVIDIA-H100-80GB-HBM3"]}, "shmSize": "32Gi"},
        },
        gateway={"limits": {"request_s": 900}},
    ),
    {
        "commonLabels": {"team": "serving", "cost-center": "0042"},
        "commonAnnotations": {"example.com/owner": "serving"},
        "gateway": {
            "ingress": {
                "enabled": True,
                "className": "nginx",
                "hosts": ["llm.example.com"],
                "tlsSecret": "llm-tls",
                "grpc": {"enabled": True, "hosts": ["grpc.example.com"], "tlsSecret": "grpc-tls"},
            },
            "gatewayApi": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["llm.example.com"]},
            "extraEnv": [{"name": "EXTRA", "value": "1"}],
            "extraVolumes": [{"name": "extra", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
            "priorityClassName": "serving",
        },
        "tls": {"enabled": True, "certManager": {"enabled": True, "issuerRef": {"name": "ca"}}},
        "redis": {"cache": {"enabled": True}},
        "monitoring": {
            name: {"enabled": True} for name in ("serviceMonitor", "podMonitor", "prometheusRule", "dashboards")
        },
        "networkPolicy": {
            "clients": [{"namespaceSelector": {"matchLabels": {"client": "true"}}}],
            "monitoring": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        },
        "otel": {"endpoint": "http://collector.telemetry:4317", "headersSecret": "otel-headers"},
        "rbac": {"viewer": True},
        "modelCache": {"hub": {"existingSecret": "hub-token"}, "storageClass": "files"},
        "upgrade": {"strategy": "NewClusterWithIncrementalUpgrade", "incremental": {"gatewayClassName": "istio"}},
        "canary": {"enabled": True, "engineTag": "next", "pools": {"chat": {"replicas": 1}}},
    },
)
EXTERNAL = {"user": "longreach", "passwordKey": "password", "caKey": "ca.crt"}
EXTERNAL_REDIS = merged(
    serving(pool("chat", engine={"redis_tier": {"enabled": True}})),
    {
        "redis": {
            role: {
                "enabled": False,
                "external": EXTERNAL | {"url": f"rediss://{role}.example.com:6380", "existingSecret": f"redis-{role}"},
            }
            for role in ("state", "cache", "gcs")
        },
        "modelCache": {"existingClaim": "models", "subPath": "weights"},
        "apiKeys": {"existingSecret": "api-keys"},
        "credential": {"existingSecret": "replica-credential", "key": "token"},
        "tls": {"enabled": True, "existingSecret": "gateway-tls"},
        "serviceAccount": {"create": False, "name": "serving"},
        "image": {"pullSecrets": ["registry"], "gateway": {"digest": f"sha256:{'0' * 64}"}},
        "ray": {"auth": {"mode": "token", "existingSecret": "ray-token"}},
    },
)
BARE = merged(
    serving(pool("chat"), groups={"cpu": {"gpu": {"count": 0}}}, gateway={"grpc": {"enabled": False}}),
    {
        "gateway": {
            "replicas": 1,
            "autoscaling": {"enabled": False},
            "podDisruptionBudget": {"enabled": False},
            "topologySpread": False,
        },
        "ray": {"gcsFaultTolerance": False},
        "redis": {"gcs": {"enabled": False}, "state": {"persistence": {"enabled": False}}},
        "modelCache": {"type": "emptyDir", "prefetch": {"enabled": False}},
        "networkPolicy": {"enabled": False},
        "tests": {"enabled": False},
    },
)
ENDPOINT = {"url": "http://10.0.0.5:8000"}
STATIC = {"config": {"models": [{"id": "any"}], "pools": [{"name": "x", "model": "any", "context_tokens": 8192}]}}
STATIC["config"]["pools"][0]["endpoints"] = [ENDPOINT]

EDGES: tuple[Case, ...] = (
    Case(name="least", values=(LEAST,)),
    Case(
        name="everything",
        values=(EVERYTHING,),
        existing=secrets("llm-tls", "grpc-tls", "otel-headers", "hub-token"),
    ),
    Case(
        name="external-redis",
        values=(EXTERNAL_REDIS,),
        existing=secrets(
            "redis-state",
            "redis-cache",
            "redis-gcs",
            "api-keys",
            "replica-credential",
            "gateway-tls",
            "ray-token",
            "registry",
        )
        | {("PersistentVolumeClaim", "models"), ("ServiceAccount", "serving")},
    ),
    Case(name="bare", values=(BARE,), api_versions=()),
    Case(name="static-endpoints", values=(STATIC,)),
    Case(
        name="longest-names",
        values=(merged(EVERYTHING, {"rbac": {"viewer": True}}),),
        release=LONGEST_RELEASE,
        existing=secrets("llm-tls", "grpc-tls", "otel-headers", "hub-token"),
    ),
    Case(
        name="longest-group-and-pool",
        values=(serving(pool("p" * 40), groups={"g" * 40: {"gpu": {"count": 1}}}),),
        release=LONGEST_RELEASE,
    ),
    Case(
        name="several-hosts",
        values=(serving(pool("huge", tensor_parallel=16), groups={"big": {"gpu": {"count": 8}, "hosts": 2}}),),
    ),
    Case(
        name="scaled-and-fixed",
        values=(serving(pool("a", replicas={"min": 1, "max": 3}), pool("b", replicas={"min": 2, "max": 2})),),
    ),
    Case(
        name="from-zero",
        values=(
            serving(
                pool("a", replicas={"min": 0, "max": 1}),
                pool("b", replicas={"min": 0, "max": 2}, autoscaling={"ttft_s": 5, "idle_s": 60}),
            ),
        ),
    ),
    Case(
        name="several-replicas-a-worker",
        values=(
            serving(
                pool("a", tensor_parallel=2, worker_group="node", replicas={"min": 3, "max": 9}),
                groups={"node": {"gpu": {"count": 8}}},
            ),
        ),
    ),
    Case(
        name="any-user-of-openshift",
        values=(merged(LEAST, {"podSecurity": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}),),
    ),
    Case(name="numbers-as-names", values=(serving(pool("1e3"), groups={"0042": {"gpu": {"count": 1}}}),)),
)
EXISTING_IN_EXAMPLES: dict[str, frozenset[tuple[str, str]]] = {
    "air-gapped": secrets(
        "registry-login",
        "longreach-ray-token",
        "longreach-redis-state",
        "longreach-redis-cache",
        "longreach-redis-gcs",
        "longreach-api-keys",
        "longreach-credential",
        "longreach-tls",
    )
    | {("PersistentVolumeClaim", "models")},
}
OF_EXAMPLES: tuple[Case, ...] = tuple(
    Case(name=path.stem, values=(path,), existing=EXISTING_IN_EXAMPLES.get(path.stem, frozenset())) for path in EXAMPLES
)
ALL: tuple[Case, ...] = (*OF_EXAMPLES, *EDGES)
