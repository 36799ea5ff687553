"""Values of the Ray side: worker groups, the head, stores, models, upgrades.

What must not live here: gateways (gateway.py), the configuration file (cluster/config).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cluster.config import Section
from cluster.kubernetes.chart.base import Extras, KubernetesName, Quantity, Raw, Resources, Scheduling

RAY_VERSION = "2.60.0"


class Gpu(Section):
    """The cards of one worker."""

    count: int = Field(default=0, ge=0, le=64, description="Cards of each worker; 0: it computes on its CPU")
    resource: str = Field(default="nvidia.com/gpu", description="The device plugin's name for them")
    products: list[str] = Field(
        default_factory=list, description="Values of the node label `nvidia.com/gpu.product` to choose from; none: any"
    )


class WorkerGroup(Scheduling, Extras):
    """One kind of Ray worker nodes."""

    gpu: Gpu = Gpu()
    maxWorkers: int = Field(
        default=0, ge=0, description="Most workers there may ever be; 0: twice what the pools need at most, at least 8"
    )
    hosts: int = Field(default=1, ge=1, le=16, description="Hosts of one worker, for replicas that span several")
    replicasPerWorker: int = Field(
        default=1, ge=1, le=64, description="CPU workers: replicas that share one; on GPUs tensor_parallel decides"
    )
    resources: Resources = Field(default=Resources(), description="Of its container; the chart adds the cards")
    shmSize: Quantity = Field(default="8Gi", description="Shared memory, for NCCL and the Redis tier's host memory")
    image: str = Field(default="", description="Another image than image.engine")
    runtimeClassName: KubernetesName = Field(default="", description="Container runtime, e.g. nvidia")
    extraEnv: list[Raw] = Field(default_factory=list, description="Further environment of its container")


class RayAuth(Section):
    """Ray's own token, which every node and driver then has to show."""

    mode: Literal["disabled", "token"] = Field(default="disabled", description="token: every node and driver shows it")
    existingSecret: KubernetesName = Field(default="", description="Key `auth_token`; none: KubeRay makes one")


class Autoscaler(Section):
    """Ray's autoscaler, beside the head: it adds workers for replicas and takes idle ones away."""

    enabled: bool = Field(
        default=True,
        description="Off: workers are as many as `replicas` needs, and a change of that makes a new Ray cluster",
    )
    idleTimeoutSeconds: int = Field(default=300, ge=1, description="A worker goes after idling for so long")
    resources: Resources = Resources(requests={"cpu": "200m", "memory": "512Mi"}, limits={"cpu": "1", "memory": "1Gi"})


class Ray(Section):
    """What holds for every Ray node."""

    version: str = Field(default=RAY_VERSION, description="Of the engine image; KubeRay adapts to it")
    auth: RayAuth = RayAuth()
    gcsFaultTolerance: bool = Field(
        default=True, description="Keep Ray's tables in redis.gcs, so that a head may restart"
    )
    autoscaler: Autoscaler = Autoscaler()
    extraEnv: list[Raw] = Field(default_factory=list, description="Further environment of head and workers")


class Head(Scheduling, Extras):
    """Ray's head: control only, no replicas."""

    resources: Resources = Resources(requests={"cpu": "2", "memory": "6Gi"}, limits={"cpu": "2", "memory": "6Gi"})


MaxMemory = Annotated[str, Field(pattern=r"^[0-9]+(kb|mb|gb)$")]


class ExternalRedis(Section):
    """A Redis that is there already."""

    url: Annotated[str, Field(pattern=r"^((rediss?)://[^@\s]+)?$")] = Field(
        default="", description="redis:// or rediss://, without user and password; empty: the chart's own"
    )
    user: str = Field(default="", description="ACL user")
    existingSecret: KubernetesName = Field(default="", description="Its password, and the CA")
    passwordKey: str = Field(default="password", description="Key of the password in that Secret")
    caKey: str = Field(default="", description="Key of the CA's certificate in that Secret; empty: the system's CAs")


class Persistence(Section):
    """The volume of a store."""

    enabled: bool = Field(default=True, description="Off: it starts empty after every restart")
    size: Quantity = Field(default="2Gi", description="Of its volume")
    storageClass: KubernetesName = Field(default="", description="Empty: the cluster's default")


class StateStore(Scheduling):
    """Leases, residency, quotas, usage."""

    enabled: bool = Field(default=True, description="Run one; off where `external.url` is given")
    maxmemory: MaxMemory = Field(
        default="384mb", description="Beyond this, what expires anyway goes, the least used first: leases stay"
    )
    persistence: Persistence = Persistence()
    resources: Resources = Resources(requests={"cpu": "250m", "memory": "1Gi"}, limits={"memory": "1Gi"})
    external: ExternalRedis = ExternalRedis()


class CacheStore(Scheduling):
    """KV blocks; it may lose them at any time."""

    enabled: bool = Field(default=False, description="Run one, for pools with engine.redis_tier")
    maxmemory: MaxMemory = Field(
        default="8gb", description="Blocks beyond this are evicted, the least recently used first"
    )
    resources: Resources = Resources(requests={"cpu": "1", "memory": "10Gi"}, limits={"memory": "10Gi"})
    external: ExternalRedis = ExternalRedis()


class GcsStore(Scheduling):
    """Ray's own tables, apart from everything else."""

    enabled: bool = Field(default=True, description="Run one, for ray.gcsFaultTolerance")
    persistence: Persistence = Persistence()
    resources: Resources = Resources(requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "256Mi"})
    external: ExternalRedis = ExternalRedis()


class Redis(Section):
    """The three stores."""

    existingSecret: KubernetesName = Field(
        default="", description="Passwords of the chart's own: state-password, cache-password, gcs-password"
    )
    state: StateStore = StateStore()
    cache: CacheStore = CacheStore()
    gcs: GcsStore = GcsStore()


class Hub(Section):
    """Where models come from."""

    endpoint: str = Field(default="", description="A mirror of the model hub (HF_ENDPOINT)")
    existingSecret: KubernetesName = Field(default="", description="Token for private models")
    tokenKey: str = Field(default="token", description="Key of the token in that Secret")
    offline: bool = Field(default=False, description="Never ask a hub")


class Prefetch(Scheduling):
    """The Job that brings models before engines ask for them."""

    enabled: bool = True
    resources: Resources = Resources(requests={"cpu": "500m", "memory": "2Gi"}, limits={"memory": "4Gi"})


class ModelCache(Section):
    """Where the models' files are."""

    type: Literal["pvc", "emptyDir"] = Field(default="pvc", description="emptyDir: every worker fetches its own")
    existingClaim: KubernetesName = Field(
        default="", description="A claim of your own, ReadOnlyMany or ReadWriteMany: gateways read tokenizers there too"
    )
    subPath: str = Field(default="", description="Folder in the claim")
    size: Quantity = Field(default="100Gi", description="Of the claim, or the most an emptyDir may take")
    storageClass: KubernetesName = Field(default="", description="Empty: the cluster's default")
    accessMode: Literal["ReadWriteOnce", "ReadWriteMany"] = Field(
        default="ReadWriteMany", description="ReadWriteOnce: for one worker, and upgrade.strategy None"
    )
    hub: Hub = Hub()
    extraEnv: list[Raw] = Field(default_factory=list, description="Environment of whatever pulls, e.g. a proxy")
    prefetch: Prefetch = Prefetch()


class Incremental(Section):
    """KubeRay's options for NewClusterWithIncrementalUpgrade."""

    gatewayClassName: KubernetesName = Field(default="", description="Class of the Gateway that KubeRay makes for it")
    stepSizePercent: int = Field(default=20, ge=1, le=100, description="Of KubeRay's own routes, in one step")
    intervalSeconds: int = Field(default=60, ge=1, description="Between two steps")
    maxSurgePercent: int = Field(default=100, ge=0, le=100, description="Capacity added at once")


class Upgrade(Section):
    """How a new set of engines takes over."""

    strategy: Literal["NewCluster", "NewClusterWithIncrementalUpgrade", "None"] = Field(
        default="NewCluster",
        description="`None` replaces engines in place, and a pool of one replica is away meanwhile",
    )
    deletionDelaySeconds: int = Field(default=60, ge=0, description="From the switch to the old cluster's drain")
    incremental: Incremental = Incremental()
    mayCutStreams: bool = Field(
        default=False, description="Accept drains shorter than the longest stream (config.gateway.limits.request_s)"
    )


class CanaryPool(Section):
    """A pool's canary."""

    replicas: int = Field(default=1, ge=1, le=100, description="Replicas of the canary")


class CanaryModel(Section):
    """What the canary's engines load instead."""

    source: str | None = Field(default=None, description="As in config.models[].source")
    revision: str | None = Field(default=None, description="As in config.models[].revision")


class Canary(Section):
    """A second revision of some pools, in a RayService of its own."""

    enabled: bool = False
    weight: int = Field(default=10, ge=0, le=100, description="Percent of these pools' requests")
    engineTag: str = Field(default="", description="Another engine image")
    models: dict[str, CanaryModel] = Field(default_factory=dict, description="By model id: another source or revision")
    pools: dict[str, CanaryPool] = Field(default_factory=dict, description="By pool name")
