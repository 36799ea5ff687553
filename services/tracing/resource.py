"""Which process telemetry comes from, in OpenTelemetry's words.

What must not live here: anything of a request.
"""

from __future__ import annotations

import os
import socket

SERVICE = "longreach-gateway"


def process_resource(cluster: str) -> dict[str, str]:
    """Attributes of this gateway process; `cluster` is its namespace."""
    return {
        "service.name": SERVICE,
        "service.namespace": cluster,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
