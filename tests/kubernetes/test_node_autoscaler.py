"""Ray's node autoscaler, asked what it would do for the chart's worker groups: its own code, without a cluster.

KubeRay runs it beside Ray's head. It reads the RayCluster as here, and gets the placement groups of replicas that have
no node yet from the GCS; what it would have launched comes out. The pods themselves need a cluster.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import GangResourceRequest

from cluster.config import PoolSection
from cluster.control.pools import placement_bundles
from cluster.engine.plan import Accelerator
from tests.kubernetes.render import Renderer
from tests.kubernetes.small_values import MODEL, POOL, SMALL

GPU = {"limits": {"cpu": "16", "memory": "64Gi"}, "requests": {"cpu": "16", "memory": "64Gi"}}
CARDS = {
    **SMALL,
    "config": {
        "models": [MODEL],
        "pools": [
            {**POOL, "worker_group": "small", "replicas": {"min": 0, "max": 2}},
            {
                **POOL, "name": "long", "context_tokens": 131072, "tensor_parallel": 4, "worker_group": "large",
                "replicas": {"min": 0, "max": 2},
            },
        ],
    },
    "workerGroups": {
        "small": {"gpu": {"count": 1}, "resources": GPU},
        "large": {"gpu": {"count": 4}, "resources": GPU},
    },
}  # fmt: skip


@pytest.fixture
def launched(render: Renderer) -> Any:
    """What is launched for the replicas of pools, none of which has a node."""
    service = render(CARDS).one("RayService")
    ray_cluster = {
        "metadata": {"name": "r", "namespace": "ns"},
        "spec": copy.deepcopy(service.spec["rayClusterConfig"]),
    }
    settings = AutoscalingConfig(_derive_autoscaling_config_from_ray_cr(ray_cluster), skip_content_hash=True)

    def launches(*pools: dict[str, Any]) -> dict[str, int]:
        request = SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=settings.get_node_type_configs(),
            max_num_nodes=settings.get_max_num_nodes(),
            gang_resource_requests=[_placement_group(PoolSection(**pool)) for pool in pools],
        )
        reply = ResourceDemandScheduler().schedule(request)
        assert reply.infeasible_gang_resource_requests == []
        return {str(one.instance_type): one.count for one in reply.to_launch if one.instance_type != "headgroup"}

    return launches


def _placement_group(pool: PoolSection) -> GangResourceRequest:
    bundles = placement_bundles(pool, Accelerator.CUDA)
    return GangResourceRequest(requests=[ResourceRequestUtil.make(bundle) for bundle in bundles])


def test_pools_at_zero_need_no_worker(launched: Any) -> None:
    assert launched() == {}


def test_a_replica_of_a_pool_brings_a_worker_of_its_group(launched: Any) -> None:
    short, long = CARDS["config"]["pools"]
    assert launched(short) == {"small": 1}
    assert launched(long) == {"large": 1}
    assert launched(short, short, long) == {"small": 2, "large": 1}
