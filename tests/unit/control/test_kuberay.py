"""A pool as it comes out of a RayService's serveConfigV2, built by Ray Serve's own code."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve._private.common import DeploymentID
from ray.serve._private.utils import import_attr  # type: ignore[attr-defined]

from cluster.control.kuberay import pool
from cluster.core.errors import ConfigError
from cluster.engine.order import ReplicaOrder

IMPORT_PATH = "cluster.control.kuberay:pool"


def arguments(**keys: Any) -> dict[str, Any]:
    section = {"name": "short", "model": "tiny", "context_tokens": 8192, "accelerator": "cpu", **keys}
    config = {"cluster": {"name": "prod", "replica_host": "node"}, "models": [{"id": "tiny"}], "pools": [section]}
    return {"pool": "short", "config": config}


def test_serve_builds_the_application_from_its_import_path_and_arguments() -> None:
    application = call_user_app_builder_with_args_if_necessary(
        import_attr(IMPORT_PATH), arguments(worker_group="small", engine={"drain_s": 90.0, "max_running": 4})
    )
    deployment = application._bound_deployment
    (order,) = deployment.init_args
    assert isinstance(order, ReplicaOrder)
    assert (order.cluster, order.pool.name, deployment.name) == ("prod", "short", "replica")
    assert deployment._replica_config.placement_group_bundles == [{"CPU": 1.0, "worker_group_small": 0.001}]
    assert deployment._deployment_config.graceful_shutdown_timeout_s == 90
    assert DeploymentID(name=deployment.name, app_name="pool-short")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accelerator": "auto"}, "must say cpu or cuda"),
        ({"name": "other"}, "no pool 'short'"),
        ({"enginee": {}}, "pools.*enginee: is not a known key"),
        ({"tensor_parallel": 0}, "tensor_parallel"),
    ],
)
def test_mistakes_are_named_by_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pool(arguments(**change))
    assert any(re.search(words, line) for line in caught.value.lines()), caught.value.lines()


def test_replica_counts_in_deployments_leave_the_code_version_alone() -> None:
    """So that scaling a pool by `helm upgrade` replaces no replica; another engine setting does."""
    from ray.serve._private.deploy_utils import get_app_code_version
    from ray.serve.schema import ServeApplicationSchema

    def version(replicas: int, **keys: Any) -> str:
        schema = ServeApplicationSchema(
            name="pool-short",
            route_prefix="/short",
            import_path=IMPORT_PATH,
            args=arguments(**keys),
            deployments=[{"name": "replica", "num_replicas": replicas}],
        )
        return get_app_code_version(schema)

    assert version(1) == version(3)
    assert version(1) != version(1, engine={"max_running": 4})
