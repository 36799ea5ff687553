"""Ports of a local cluster: checked before anything starts, picked where the configuration says 0.

What must not live here: listening.
"""

from __future__ import annotations

import errno

from cluster.config import Config
from cluster.core.errors import SetupError
from cluster.sockets import free_port, listen_refusal, owner_of_port

RAY_HOST = "127.0.0.1"


def with_ports(config: Config) -> Config:
    """The configuration with every 0 replaced by a free port.

    Raises:
        SetupError: a port that the configuration names is taken; it says by whom. Or it cannot be had at all.
    """
    host, ray_port, gateway_port = config.gateway.host, config.cluster.ray_port, config.gateway.port
    if ray_port and ray_port == gateway_port:
        raise SetupError(
            f"port {ray_port} is asked for twice, by cluster.ray_port and by gateway.port",
            "set one of them to another port (0 picks a free one)",
        )
    _require_free(RAY_HOST, ray_port, "Ray", "cluster.ray_port")
    _require_free(host, gateway_port, "the gateway", "gateway.port")
    ray_port = ray_port or _free_port_except(gateway_port, RAY_HOST)
    gateway_port = gateway_port or _free_port_except(ray_port, host)
    return config.model_copy(
        update={
            "cluster": config.cluster.model_copy(update={"ray_port": ray_port}),
            "gateway": config.gateway.model_copy(update={"port": gateway_port}),
        }
    )


def _free_port_except(other: int, host: str) -> int:
    port = free_port(host)
    # Nobody listens on `other` yet, so the kernel may pick it; never twice in a row.
    return free_port(host) if port == other else port


def _require_free(host: str, port: int, use: str, field: str) -> None:
    refusal = listen_refusal(host, port)
    if refusal is None:
        return
    if refusal.errno != errno.EADDRINUSE:
        raise SetupError(
            f"{host}:{port}, which {use} needs, cannot be listened on: {refusal.strerror or refusal}",
            f"set {field} to a port that this user may take (1024 and above), and gateway.host to an address of this "
            "machine",
        )
    owner = owner_of_port(port, host)
    who = f"by process {owner.pid} ({owner.command})" if owner else "by a process of another user"
    raise SetupError(
        f"port {port}, which {use} needs, is taken {who}",
        f"stop that process, or set {field} to another port (0 picks a free one)",
    )
