"""Closes a door of Ray Serve that a replica does not use.

Every Serve replica opens a gRPC server for calls from other deployments, on all interfaces, and unpickles what it
gets: whoever reaches the port runs code. Longreach sends nothing through deployment handles, so the server is bound
to loopback. A private seam of the pinned Ray; tests/contract asserts it and tests/integration reads the socket table.
"""

from __future__ import annotations

from typing import Any

LOOPBACK_ANY_PORT = "127.0.0.1:0"


def bind_handle_server_to_loopback() -> None:
    """Make this process's Serve replica bind its inter-deployment server to loopback.

    To be called while the deployment is constructed: Serve starts that server afterwards.
    """
    from ray.serve._private import replica

    add_port = replica.add_port_to_grpc_server

    def on_loopback(server: Any, address: str) -> int:
        del address
        return int(add_port(server, LOOPBACK_ANY_PORT))

    replica.add_port_to_grpc_server = on_loopback
