"""Ports of a local cluster: checked before anything starts, picked where the configuration says 0.

What must not live here: listening.
"""

from __future__ import annotations

from cluster.config import Config
from cluster.core.errors import SetupError
from cluster.sockets import free_port, is_port_free, owner_of_port


def with_ports(config: Config) -> Config:
    """The configuration with every 0 replaced by a free port.

    Raises:
        SetupError: a port that the configuration names is taken; it says by whom.
    """
    ray_port = config.cluster.ray_port or free_port()
    gateway_port = config.gateway.port or free_port(config.gateway.host)
    _require_free("127.0.0.1", ray_port, "Ray", "cluster.ray_port")
    _require_free(config.gateway.host, gateway_port, "the gateway", "gateway.port")
    return config.model_copy(
        update={
            "cluster": config.cluster.model_copy(update={"ray_port": ray_port}),
            "gateway": config.gateway.model_copy(update={"port": gateway_port}),
        }
    )


def _require_free(host: str, port: int, use: str, field: str) -> None:
    if is_port_free(host, port):
        return
    owner = owner_of_port(port)
    who = f"by process {owner.pid} ({owner.command})" if owner else "by a process of another user"
    raise SetupError(
        f"port {port}, which {use} needs, is taken {who}",
        f"stop that process, or set {field} to another port (0 picks a free one)",
    )
