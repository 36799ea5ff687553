"""What cluster/control/autoscaling.py takes from the pinned Ray Serve: its stable class policy, and how it is called.

Ray is imported, never started. The interface is stable; that it is called at zero replicas, that nothing is added to
its answer, and that the chart's file keeps it, are observations.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private import application_state, autoscaling_state
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.constants import CONTROL_LOOP_INTERVAL_S
from ray.serve._private.deployment_info import DeploymentInfo
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from ray.serve.schema import ServeApplicationSchema

from cluster.config import Config, parse_config
from cluster.control.autoscaling import PoolPolicy
from cluster.control.pools import NO_DELAYS, POLICY, autoscaling_options, pool_application
from cluster.engine.order import ReplicaOrder
from cluster.engine.plan import Accelerator

CONFIG = """
models: [{id: m}]
redis: {state_url: "redis://127.0.0.1:1/0"}
pools: [{name: short, model: m, context_tokens: 100, accelerator: cpu, replicas: {min: 0, max: 9}}]
"""


def config() -> Config:
    return parse_config(CONFIG)


@pytest.fixture(autouse=True)
def own_methods() -> Iterator[None]:
    """Unpickling a class in the process that pickled it gives it methods with other globals: for one test only."""
    own = {name: value for name, value in vars(PoolPolicy).items() if inspect.isfunction(value)}
    yield
    for name, value in own.items():
        setattr(PoolPolicy, name, value)


class Always:
    """A policy that wants one number."""

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        del context
        return self.replicas, {}


def context(*, target: int, running: int) -> Any:
    settings = AutoscalingConfig(min_replicas=0, max_replicas=9, **NO_DELAYS)
    return SimpleNamespace(
        config=settings, target_num_replicas=target, current_num_replicas=running, total_num_requests=0, policy_state={}
    )


def test_a_policy_may_be_a_class_with_arguments() -> None:
    """It keeps its thread and its memory between calls."""
    assert {"policy_function", "policy_kwargs"} <= AutoscalingPolicy.model_fields.keys()
    source = inspect.getsource(autoscaling_state._resolve_policy_callable)
    assert "inspect.isclass(raw)" in source
    assert "target_num_replicas" in inspect.signature(AutoscalingContext.__init__).parameters
    # Once for each registration, which is each change of the pool's settings.
    register = inspect.getsource(autoscaling_state.DeploymentAutoscalingState.register)
    assert register.count("_resolve_policy_callable") == 1


@pytest.mark.parametrize(
    ("target", "running", "wanted", "becomes"),
    [
        (0, 0, 3, 3),
        (1, 1, 4, 4),
        (4, 2, 4, 4),
        (4, 4, 2, 2),
        (1, 1, 0, 0),
        # One less than none left is not taken at once: the next call takes it.
        (3, 3, 0, 1),
    ],
)
def test_nothing_is_added_to_the_policys_answer(target: int, running: int, wanted: int, becomes: int) -> None:
    """No look-back, no delay, no factor."""
    decided, _ = _apply_autoscaling_config(Always(wanted))(context(target=target, running=running))
    assert decided == becomes


def test_the_policy_is_called_with_every_loop_also_at_zero() -> None:
    """So the wait for an order is this, and the rhythm of what is read."""
    assert CONTROL_LOOP_INTERVAL_S <= 0.1
    update = inspect.getsource(application_state.ApplicationStateManager.update)
    assert "if app.should_autoscale():" in update
    decide = inspect.getsource(autoscaling_state.DeploymentAutoscalingState.get_decision_num_replicas)
    assert "self._policy(autoscaling_context)" in decide
    assert "len(self._running_replicas)" not in decide


def test_a_pool_is_built_with_the_policy() -> None:
    made = config()
    order = ReplicaOrder(config=made, pool_name="short")
    application = pool_application(made.pool("short"), order, accelerator=Accelerator.CPU, version=None)
    settings = application._bound_deployment._deployment_config.autoscaling_config
    assert settings is not None
    assert settings.policy.policy_function == POLICY
    assert (settings.min_replicas, settings.max_replicas, settings.upscale_delay_s) == (0, 9, 0)


def deployed(config: Config) -> tuple[str, Any]:
    """The pool's deployment as the controller gets it, from a driver or a build task: through protobuf."""
    order = ReplicaOrder(config=config, pool_name="short")
    application = pool_application(config.pool("short"), order, accelerator=Accelerator.CPU, version=None)
    built = application._bound_deployment
    sent = DeploymentConfig.from_proto_bytes(built._deployment_config.to_proto_bytes())
    info = DeploymentInfo(
        deployment_config=sent, replica_config=built._replica_config, start_time_ms=0, deployer_job_id="1"
    )
    return built._name, info


def test_the_policy_reaches_the_controller() -> None:
    _, info = deployed(config())
    settings = info.deployment_config.autoscaling_config
    policy = autoscaling_state._resolve_policy_callable(settings.policy)
    assert type(policy).__name__ == "PoolPolicy"
    assert (settings.min_replicas, settings.max_replicas, settings.downscale_delay_s) == (0, 9, 0)


def test_a_file_that_names_a_count_must_name_the_policy() -> None:
    """The chart does (`longreach.autoscalingConfig`): Serve takes nothing of the application's own then."""
    made = config()
    name, info = deployed(made)
    options = autoscaling_options(made.pool("short"), ReplicaOrder(config=made, pool_name="short"))
    pickled = {name: info.deployment_config.autoscaling_config.policy.get_serialized_policy_def()}

    def overridden(given: dict[str, Any]) -> Any:
        deployment = {"name": name, "num_replicas": "auto", "autoscaling_config": given}
        file = ServeApplicationSchema(import_path="cluster.control.kuberay:pool", deployments=[deployment])
        infos = application_state.override_deployment_info({name: info}, file, pickled)
        return infos[name].deployment_config.autoscaling_config

    settings = overridden(options)
    policy = autoscaling_state._resolve_policy_callable(settings.policy)
    assert type(policy).__name__ == "PoolPolicy"
    assert (settings.min_replicas, settings.max_replicas, settings.upscale_delay_s) == (0, 9, 0)
    bounds = {"min_replicas": 0, "max_replicas": 9}
    assert overridden(bounds).policy.is_default_policy_function()


def test_serve_itself_has_no_say_at_zero() -> None:
    """It starts a first replica for what it counts itself, and nobody can ask it for a pool at zero."""
    source = inspect.getsource(autoscaling_state.DeploymentAutoscalingState.get_autoscaling_context)
    assert "total_num_requests=self.get_total_num_requests" in source
    decided, _ = _apply_autoscaling_config(Always(0))(context(target=0, running=0))
    assert decided == 0
