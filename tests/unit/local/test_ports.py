"""Ports are checked before anything starts."""

from __future__ import annotations

import socket

import pytest

from cluster.config import Config, parse_config
from cluster.core.errors import SetupError
from cluster.local.ports import with_ports
from cluster.sockets import free_port
from tests.listener import listener


def config(gateway: int, ray: int) -> Config:
    return parse_config(
        f"""
cluster: {{ray_port: {ray}}}
models: [{{id: m}}]
pools: [{{name: p, model: m, context_tokens: 100}}]
gateway: {{port: {gateway}}}
"""
    )


def test_zero_becomes_a_free_port() -> None:
    found = with_ports(config(0, 0))
    assert found.gateway.port > 0
    assert found.cluster.ray_port > 0
    assert found.gateway.port != found.cluster.ray_port


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("field", ["gateway.port", "cluster.ray_port"])
def test_taken_port_is_named_with_its_owner(field: str, host: str) -> None:
    with listener(host) as (pid, port):
        asked = config(port, 0) if field == "gateway.port" else config(0, port)
        with pytest.raises(SetupError) as refused:
            with_ports(asked)
    assert f"port {port}" in refused.value.problem
    assert f"taken by process {pid} (" in refused.value.problem
    assert "somebody-elses-server" in refused.value.problem
    assert field in refused.value.remedy


def test_the_owner_is_looked_for_on_the_address_that_is_taken() -> None:
    """Two servers may share a port on two addresses; only one of them is in the way."""
    with socket.create_server(("127.0.0.2", 0)) as other:
        port = other.getsockname()[1]
        with listener("127.0.0.1", port) as (pid, _), pytest.raises(SetupError) as refused:
            with_ports(config(port, 0))
    assert f"taken by process {pid} (" in refused.value.problem


@pytest.mark.parametrize("port", [18080, 0])
def test_address_of_another_machine_is_not_called_taken(port: int) -> None:
    asked = config(port, 0)
    asked = asked.model_copy(update={"gateway": asked.gateway.model_copy(update={"host": "192.0.2.1"})})
    with pytest.raises(SetupError, match=r"192\.0\.2\.1:\d+, .* cannot be listened on: .*[Cc]annot assign") as refused:
        with_ports(asked)
    assert "gateway.host" in refused.value.remedy


def test_one_port_for_two_uses_is_refused() -> None:
    port = free_port()
    with pytest.raises(SetupError, match=f"port {port} is asked for twice"):
        with_ports(config(port, port))
