"""Ports are checked before anything starts."""

from __future__ import annotations

import os
import socket

import pytest

from cluster.config import Config, parse_config
from cluster.core.errors import SetupError
from cluster.local.ports import with_ports


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


@pytest.mark.parametrize("field", ["gateway.port", "cluster.ray_port"])
def test_taken_port_is_named_with_its_owner(field: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        asked = config(port, 0) if field == "gateway.port" else config(0, port)
        with pytest.raises(SetupError) as refused:
            with_ports(asked)
    assert f"port {port}" in refused.value.problem
    assert f"process {os.getpid()} (" in refused.value.problem
    assert field in refused.value.remedy
