"""What Longreach takes from the pinned Ray beyond its stable API; one test for each, which says who depends on it.

Ray is imported, never started. A failure here after a new pin means: look at the module named in the test.
"""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import re
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import serve
from ray._private import ray_constants, services
from ray.serve import context
from ray.serve._private import constants, replica
from ray.serve.config import AutoscalingConfig, BackpressureConfig

from cluster.control.head import LOOPBACK, LOOPBACK_ENVIRONMENT, head_process, serve_environment
from cluster.core.lease import ReplicaId
from cluster.engine import seal
from cluster.engine.replica import EngineReplica, find_port
from tests.unit.engine.plans import config

RAY = Path(ray.__file__).parent
PINS = Path(__file__).parents[2] / "locks" / "cpu.txt"


def parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


def test_ray_is_the_pinned_one() -> None:
    """Every test below was written for it."""
    (pin,) = re.findall(r"^ray==(\S+)$", PINS.read_text(encoding="utf-8"), re.MULTILINE)
    assert importlib.metadata.version("ray") == pin == ray.__version__


def test_the_handle_server_binds_through_a_name_that_can_be_replaced() -> None:
    """cluster/engine/seal.py replaces it in the module, so the call must look it up there, once, for all interfaces."""
    tree = ast.parse(inspect.getsource(replica))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "add_port_to_grpc_server"
        and isinstance(node.args[-1], ast.Constant)
    ]
    assert [call.args[-1].value for call in calls if isinstance(call.args[-1], ast.Constant)] == ["[::]:0"]
    others = re.findall(r"add_(?:in)?secure_port\(", inspect.getsource(replica))
    assert others == []


def test_the_handle_server_starts_after_the_constructor() -> None:
    """cluster/engine/replica.py seals it from __init__, which would otherwise be too late."""
    source = inspect.getsource(replica.Replica._on_initialized)
    assert "add_port_to_grpc_server" in source
    assert source.index("add_port_to_grpc_server") < source.index("self._server.start()")


def test_the_seal_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """cluster/engine/seal.py: whatever address Ray asks for becomes loopback."""
    bound: list[str] = []

    def add_port(server: object, address: str) -> int:
        del server
        bound.append(address)
        return 4242

    monkeypatch.setattr(replica, "add_port_to_grpc_server", add_port)
    seal.bind_handle_server_to_loopback()
    assert replica.add_port_to_grpc_server(object(), "[::]:0") == 4242
    assert bound == [seal.LOOPBACK_ANY_PORT] == ["127.0.0.1:0"]


def test_an_application_can_be_built_late() -> None:
    """cluster/engine/replica.py gives Serve its ASGI application after the engine runs."""
    assert replica.SERVE_BUILD_ASGI_APP_METHOD == "__serve_build_asgi_app__"
    assert hasattr(EngineReplica, replica.SERVE_BUILD_ASGI_APP_METHOD)
    assert "__serve_build_asgi_app__" in inspect.getsource(serve.ingress)


def test_constructor_and_destructor_may_be_coroutines() -> None:
    """cluster/engine/replica.py starts its engine in `async __init__` and ends it in `async __del__`."""
    source = inspect.getsource(replica.UserCallableWrapper)
    assert re.search(r"_call_func_or_gen\(\s*self\._callable\.__init__", source)
    assert re.search(r"_call_func_or_gen\(\s*self\._callable\.__del__", source)


def test_serves_details_list_the_replicas_own_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """cluster/engine/replica.py learns its own port from there: no context has it."""
    from ray.serve.schema import ServeInstanceDetails, Target, TargetGroup

    assert "target_groups" in ServeInstanceDetails.model_fields
    assert {"targets", "route_prefix", "protocol"} <= TargetGroup.model_fields.keys()
    assert {"ip", "port", "name"} <= Target.model_fields.keys()
    target = Target(ip="127.0.0.1", port=30007, instance_id="", name="SERVE_REPLICA::pool-short#replica#abc123")
    group = TargetGroup(targets=[target], route_prefix="/short", protocol="HTTP")

    class Client:
        def get_serve_details(self) -> dict[str, Any]:
            return {"target_groups": [group.model_dump()]}

    monkeypatch.setattr(context, "_get_global_client", Client)
    assert find_port(ReplicaId("abc123")) == 30007
    assert find_port(ReplicaId("zzz")) is None


def test_a_replicas_full_id_ends_in_its_unique_part() -> None:
    """cluster/engine/replica.py finds itself in the details by that."""
    from ray.serve._private.client import ServeControllerClient
    from ray.serve._private.common import DeploymentID, ReplicaID

    made = ReplicaID(unique_id="abc123", deployment_id=DeploymentID(name="replica", app_name="pool-short"))
    assert made.to_full_id_str().endswith(made.unique_id)
    assert callable(ServeControllerClient.get_serve_details)
    assert callable(context._get_global_client)
    assert "replica_id" in inspect.get_annotations(context.ReplicaContext)


def test_a_drain_shows_at_the_replicas_own_health_route() -> None:
    """cluster/engine/replica.py asks it twice a second: nothing else tells a replica that it is to go."""
    assert '"/-/healthz"' in inspect.getsource(replica)
    assert constants.DRAINING_MESSAGE


def test_applications_can_be_submitted_without_waiting() -> None:
    """cluster/control/apply.py submits pools one after the other and waits for all but the last."""
    assert "wait_for_applications_running" in parameters(serve.run_many)
    assert {"target", "name", "route_prefix"} <= parameters(serve.RunTarget)
    assert {"proxy_location", "http_options"} <= parameters(serve.start)


def test_deployment_options() -> None:
    """cluster/control/pools.py sets these."""
    assert {
        "max_ongoing_requests",
        "max_queued_requests",
        "placement_group_bundles",
        "placement_group_strategy",
        "graceful_shutdown_timeout_s",
        "graceful_shutdown_wait_loop_s",
        "health_check_period_s",
        "health_check_timeout_s",
        "autoscaling_config",
        "num_replicas",
    } <= parameters(serve.Deployment.options)
    assert {"min_replicas", "max_replicas", "target_ongoing_requests"} <= AutoscalingConfig.model_fields.keys()


def test_a_deployment_can_still_be_given_its_version() -> None:
    """cluster/control/pools.py: without one Serve takes every submission for new code and replaces every replica."""
    deployment = serve.deployment(EngineReplica).options(name="replica", version="v1", _internal=True)
    assert deployment.version == "v1"
    with pytest.raises(ValueError, match="version"):
        serve.deployment(EngineReplica).options(name="replica", version="v1")


def test_serves_own_backpressure_is_a_setting_of_its_own() -> None:
    """cluster/control/pools.py leaves it alone and lets cluster/engine/layer.py refuse; 503 is Serve's default."""
    made = BackpressureConfig()
    assert made.status_code == 503
    assert "backpressure_config" in parameters(serve.Deployment.options)


def test_clusters_can_be_switched_off_to_stay_on_loopback() -> None:
    """cluster/control/head.py sets the variable; with it Ray's own address is 127.0.0.1 instead of the machine's."""
    assert ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR in LOOPBACK_ENVIRONMENT
    pattern = r"^ENABLE_RAY_CLUSTER = env_bool\(\s*ENABLE_RAY_CLUSTERS_ENV_VAR"
    assert re.search(pattern, inspect.getsource(ray_constants), re.MULTILINE)


def test_loopback_is_what_ray_takes_for_itself_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """cluster/control/head.py and cluster/engine/replica.py, which publishes that address in its lease."""
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
    monkeypatch.setattr(ray._private.worker, "_global_node", None)
    assert services.get_node_ip_address() == LOOPBACK


@pytest.mark.parametrize("name", sorted(serve_environment(config()) | LOOPBACK_ENVIRONMENT))
def test_ray_still_reads_the_variables_that_are_set(name: str) -> None:
    """cluster/control/head.py; a renamed variable would be ignored silently."""
    setting = name.removeprefix("RAY_")
    if setting[0].islower():
        # A setting of Ray's C++ parts, read by RAY_CONFIG(type, name, default).
        raylet = RAY / "core" / "src" / "ray" / "raylet" / "raylet"
        assert setting.encode() in raylet.read_bytes()
        return
    if name.startswith("SPT_"):
        # Of setproctitle, which is compiled into Ray's own extension module.
        assert name.encode() in Path(ray._raylet.__file__).read_bytes()
        return
    sources = [
        RAY / "_private" / "ray_constants.py",
        RAY / "_private" / "utils.py",
        RAY / "_private" / "worker.py",
        RAY / "_private" / "authentication",
        RAY / "_common" / "usage" / "usage_constants.py",
        RAY / "autoscaler" / "_private" / "monitor.py",
        RAY / "dashboard" / "consts.py",
        RAY / "serve" / "_private" / "constants.py",
    ]
    files = [file for path in sources for file in (path.rglob("*.py") if path.is_dir() else [path])]
    assert any(re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")) for file in files)


def test_ray_start_knows_every_flag() -> None:
    """cluster/control/head.py."""
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in (*parameter.opts, *parameter.secondary_opts)}
    spec = head_process(config(), temp_dir=Path("/tmp/lr"), ray_port=1, client_port=2, base_env=os.environ)
    assert {part.partition("=")[0] for part in spec.argv if part.startswith("--")} <= known
