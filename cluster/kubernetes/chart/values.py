"""The whole of the chart's values.

What must not live here: the sections (ray.py, gateway.py), writing files (generate.py).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cluster.config import Config, Section
from cluster.kubernetes.chart.base import KubernetesName, Raw
from cluster.kubernetes.chart.gateway import (
    ApiKeys,
    Credential,
    Gateway,
    Monitoring,
    NetworkPolicy,
    Otel,
    PodSecurity,
    Rbac,
    ServiceAccount,
    Tests,
    Tls,
)
from cluster.kubernetes.chart.ray import Canary, Head, ModelCache, Ray, Redis, Upgrade, WorkerGroup


class Image(Section):
    """One image."""

    repository: str = Field(description="Registry and name")
    tag: str = Field(default="", description="Empty: this version")
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")] = Field(
        default="", description="sha256:…; it wins over the tag"
    )


class Images(Section):
    """Where images come from."""

    pullPolicy: Literal["IfNotPresent", "Always", "Never"] = Field(default="IfNotPresent", description="Of every image")
    pullSecrets: list[KubernetesName] = Field(default_factory=list, description="Names of Secrets")
    engine: Image = Image(repository="longreach")
    gateway: Image = Image(repository="longreach-gateway")
    redis: Image = Image(repository="docker.io/valkey/valkey", tag="9.0")


class ChartValues(Section):
    """Everything `helm install` takes."""

    nameOverride: str = Field(default="", description="Instead of the chart's name in names and labels")
    fullnameOverride: str = Field(default="", description="Instead of release and chart in names")
    commonLabels: dict[str, str] = Field(default_factory=dict, description="Labels of every object")
    commonAnnotations: dict[str, str] = Field(default_factory=dict, description="Annotations of every object")
    global_: Raw = Field(default_factory=dict, alias="global", description="Helm's own; unused")
    image: Images = Images()
    config: Config = Field(description="The configuration file; the chart adds addresses, files and ports")
    workerGroups: dict[str, WorkerGroup] = Field(
        default_factory=dict, description="Kinds of Ray nodes by name; pools name theirs in `worker_group`"
    )
    ray: Ray = Ray()
    head: Head = Head()
    gateway: Gateway = Gateway()
    apiKeys: ApiKeys = ApiKeys()
    credential: Credential = Credential()
    tls: Tls = Tls()
    redis: Redis = Redis()
    modelCache: ModelCache = ModelCache()
    networkPolicy: NetworkPolicy = NetworkPolicy()
    serviceAccount: ServiceAccount = ServiceAccount()
    rbac: Rbac = Rbac()
    podSecurity: PodSecurity = PodSecurity()
    upgrade: Upgrade = Upgrade()
    canary: Canary = Canary()
    monitoring: Monitoring = Monitoring()
    otel: Otel = Otel()
    tests: Tests = Tests()
