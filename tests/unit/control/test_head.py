"""Ray's head process is asked for loopback, no dashboard, and Serve's settings in time."""

from __future__ import annotations

from pathlib import Path

from cluster.control.head import (
    LOOPBACK,
    LOOPBACK_ENVIRONMENT,
    SPARE_CPUS,
    ProcessSpec,
    address,
    head_process,
    serve_environment,
)
from tests.unit.engine.plans import config


def spec(pool: str = "") -> ProcessSpec:
    return head_process(
        config(pool),
        temp_dir=Path("/tmp/lr"),
        ray_port=6380,
        client_port=6381,
        base_env={"PATH": "/bin", "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0", "MINE": "x"},
    )


def test_the_command_line() -> None:
    program, *rest = spec().argv
    assert Path(program).name == "ray"
    assert rest[:3] == ["start", "--head", "--block"]
    given = dict(part.removeprefix("--").split("=", 1) for part in rest if "=" in part)
    assert given["node-ip-address"] == LOOPBACK == "127.0.0.1"
    assert given["port"] == "6380"
    assert given["ray-client-server-port"] == "6381"
    assert given["temp-dir"] == "/tmp/lr"
    assert given["include-dashboard"] == "false"
    assert given["dashboard-agent-listen-port"] == "0"
    assert "--disable-usage-stats" in rest


def test_the_environment_is_passed_on_and_ours_wins() -> None:
    env = spec().env
    assert (env["PATH"], env["MINE"]) == ("/bin", "x")
    assert env["RAY_SERVE_ENABLE_DIRECT_INGRESS"] == "1"
    assert env.items() >= {**serve_environment(config()), **LOOPBACK_ENVIRONMENT}.items()


def test_ray_stays_on_loopback() -> None:
    assert LOOPBACK_ENVIRONMENT["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


def test_replica_ports_begin_where_the_configuration_says() -> None:
    env = serve_environment(config(cluster="{replica_port_min: 31000}"))
    assert env["RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT"] == "31000"
    assert env["RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT"] == "31999"
    assert env["RAY_AUTH_MODE"] == "disabled"
    assert env["RAY_SERVE_ENABLE_HA_PROXY"] == "0"


def test_everything_is_text() -> None:
    assert all(isinstance(value, str) for value in spec().env.values())


def test_what_drivers_connect_to() -> None:
    assert address(6380) == "127.0.0.1:6380"


def test_every_rank_of_every_replica_has_a_placement_token() -> None:
    argv = spec("tensor_parallel: 2, replicas: {min: 1, max: 30}").argv
    assert f"--num-cpus={60 + SPARE_CPUS}" in argv
