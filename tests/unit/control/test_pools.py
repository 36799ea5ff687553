"""The Serve application of a pool, built without a Ray cluster."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.config.pools import MAX_REPLICAS
from cluster.control.head import worker_group_resources
from cluster.control.pools import TARGET_LOAD_RATIO, app_name, placement_bundles, plan_version, pool_application
from cluster.engine.hardware import Hardware
from cluster.engine.plan import Accelerator, ReplicaPlan
from cluster.engine.replica import EngineReplica
from cluster.engine.settings import replica_plan
from tests.unit.engine.plans import CUDA, card, config, machine, plan


def built(pool: str = "", hardware: Hardware | None = None) -> tuple[Any, ReplicaPlan]:
    """The deployment inside the application, and the plan it was made from."""
    made = config(pool)
    plan_of_pool = replica_plan(
        made, made.pools[0], card=card(), folder="/models/tiny", state_url=None, hardware=hardware or machine()
    )
    application = pool_application(
        made.pools[0], plan_of_pool, accelerator=plan_of_pool.accelerator, version=plan_version(plan_of_pool)
    )
    return application._bound_deployment, plan_of_pool


@pytest.mark.parametrize(("ranks", "bundle"), [(1, {"CPU": 1.0}), (2, {"CPU": 2.0})])
def test_ranks_of_a_cpu_replica_share_one_bundle(ranks: int, bundle: dict[str, float]) -> None:
    assert placement_bundles(config(f"tensor_parallel: {ranks}").pools[0], Accelerator.CPU) == [bundle]


def test_a_worker_group_says_where_and_never_how_many() -> None:
    made = config("worker_group: large, hosts: 2, tensor_parallel: 4")
    (resource,) = worker_group_resources(made)
    bundles = placement_bundles(made.pools[0], Accelerator.CUDA)
    assert all(0 < bundle[resource] <= 1 / MAX_REPLICAS for bundle in bundles)


def test_ranks_over_several_hosts_get_a_bundle_each_beside_the_replicas_own() -> None:
    deployment, _ = built("tensor_parallel: 4, hosts: 2", CUDA)
    config_of = deployment._replica_config
    card_bundle = {"CPU": 1.0, "GPU": 1.0}
    assert config_of.placement_group_bundles == [{"CPU": 1.0}, card_bundle, card_bundle, card_bundle, card_bundle]
    assert config_of.placement_group_strategy == "PACK"
    assert deployment.ray_actor_options["num_gpus"] == 0


def test_ranks_of_a_gpu_replica_get_a_card_each_on_one_host() -> None:
    deployment, _ = built("tensor_parallel: 4", CUDA)
    config_of = deployment._replica_config
    assert config_of.placement_group_bundles == [{"CPU": 4.0, "GPU": 4.0}]
    assert config_of.placement_group_strategy == "STRICT_PACK"
    assert (deployment.ray_actor_options["num_cpus"], deployment.ray_actor_options["num_gpus"]) == (4.0, 4.0)


def test_a_fixed_pool_does_not_scale() -> None:
    deployment, _ = built("replicas: {min: 2, max: 2}")
    assert deployment.num_replicas == 2
    assert deployment._deployment_config.autoscaling_config is None


@pytest.mark.parametrize(("least", "most"), [(1, 2), (2, 4)])
def test_a_pool_with_room_scales(least: int, most: int) -> None:
    deployment, made = built(f"replicas: {{min: {least}, max: {most}}}")
    scaling = deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (least, most)
    assert scaling.target_ongoing_requests == made.max_running * TARGET_LOAD_RATIO


def test_the_target_load_is_at_least_one() -> None:
    deployment, _ = built("replicas: {min: 1, max: 2}, engine: {max_running: 1}")
    assert deployment._deployment_config.autoscaling_config.target_ongoing_requests == 1.0


def test_serves_own_limit_lies_above_the_replicas() -> None:
    deployment, made = built("engine: {max_running: 4, max_queued: 6}")
    assert deployment.max_ongoing_requests > made.max_requests == 10
    assert deployment.max_queued_requests == -1


def test_drain_and_health() -> None:
    deployment, made = built("engine: {drain_s: 33}")
    settings = deployment._deployment_config
    assert settings.graceful_shutdown_timeout_s == made.drain_s == 33
    assert 0 < settings.health_check_period_s <= settings.health_check_timeout_s


def test_the_application_carries_the_plan() -> None:
    deployment, made = built()
    assert deployment.func_or_class.__name__ == EngineReplica.__name__
    assert deployment.init_args == (made,)


def test_names_differ_from_pool_to_pool() -> None:
    assert app_name("short") == "pool-short"


def test_replicas_are_replaced_only_when_their_plan_changed() -> None:
    one, _ = built("replicas: {min: 1, max: 1}")
    more, _ = built("replicas: {min: 3, max: 3}")
    other, _ = built("engine: {max_running: 4}")
    assert one.version == more.version == plan_version(plan())
    assert other.version != one.version
