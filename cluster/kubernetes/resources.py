"""The kinds of objects that are read or asked about, and where the API server has them.

What must not live here: who may read them (rights.py), reading them (api.py).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind of object, as its URL and its RBAC rule name it; the core group is the empty string."""

    group: str
    version: str
    plural: str
    is_namespaced: bool

    @property
    def name(self) -> str:
        """As kubectl writes it: `pods`, `rayservices.ray.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of all of them, of those in a namespace, or of one."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if namespace is not None and self.is_namespaced else ""
        return f"{root}{inside}/{self.plural}" + (f"/{name}" if name is not None else "")


def _core(plural: str, *, is_namespaced: bool = True) -> Resource:
    return Resource(group="", version="v1", plural=plural, is_namespaced=is_namespaced)


def _in(group: str, plural: str, *, version: str = "v1", is_namespaced: bool = True) -> Resource:
    return Resource(group=group, version=version, plural=plural, is_namespaced=is_namespaced)


NODES = _core("nodes", is_namespaced=False)
NAMESPACES = _core("namespaces", is_namespaced=False)
PODS = _core("pods")
EVENTS = _core("events")
CONFIG_MAPS = _core("configmaps")
SECRETS = _core("secrets")
SERVICES = _core("services")
SERVICE_ACCOUNTS = _core("serviceaccounts")
VOLUME_CLAIMS = _core("persistentvolumeclaims")
RESOURCE_QUOTAS = _core("resourcequotas")
LIMIT_RANGES = _core("limitranges")
DEPLOYMENTS = _in("apps", "deployments")
STATEFUL_SETS = _in("apps", "statefulsets")
JOBS = _in("batch", "jobs")
AUTOSCALERS = _in("autoscaling", "horizontalpodautoscalers", version="v2")
DISRUPTION_BUDGETS = _in("policy", "poddisruptionbudgets")
NETWORK_POLICIES = _in("networking.k8s.io", "networkpolicies")
INGRESSES = _in("networking.k8s.io", "ingresses")
ROLES = _in("rbac.authorization.k8s.io", "roles")
ROLE_BINDINGS = _in("rbac.authorization.k8s.io", "rolebindings")
STORAGE_CLASSES = _in("storage.k8s.io", "storageclasses", is_namespaced=False)
RAY_SERVICES = _in("ray.io", "rayservices")
RAY_CLUSTERS = _in("ray.io", "rayclusters")
HTTP_ROUTES = _in("gateway.networking.k8s.io", "httproutes")
GRPC_ROUTES = _in("gateway.networking.k8s.io", "grpcroutes")
SERVICE_MONITORS = _in("monitoring.coreos.com", "servicemonitors")
POD_MONITORS = _in("monitoring.coreos.com", "podmonitors")
SCRAPE_CONFIGS = _in("monitoring.coreos.com", "scrapeconfigs", version="v1alpha1")
PROMETHEUS_RULES = _in("monitoring.coreos.com", "prometheusrules")
CERTIFICATES = _in("cert-manager.io", "certificates")
ACCESS_REVIEWS = _in("authorization.k8s.io", "selfsubjectaccessreviews", is_namespaced=False)

METRICS_GROUP = "metrics.k8s.io"
"""The API that a HorizontalPodAutoscaler reads CPU and memory from; it has no objects to write."""
