"""What a running gateway has told of its ports: the ready file (services/gateway/server.py writes it).

What must not live here: whether it still answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

from cluster.local.journal import read_journal
from cluster.local.rundir import RunDir

LOOPBACK = "127.0.0.1"


def read_ready(path: Path) -> dict[str, int]:
    """The ports by name, `port`, `admin_port` and `grpc_port`, and `pid`; empty where no gateway listens."""
    try:
        told: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told


def grpc_url_of(run_dir: RunDir) -> str | None:
    """Where the cluster's gateway serves gRPC; None where it does not, or none listens."""
    port = read_ready(run_dir.gateway_ready).get("grpc_port")
    if port is None:
        return None
    journal = read_journal(run_dir.journal)
    host = (urlsplit(journal.url).hostname if journal is not None else None) or LOOPBACK
    return f"grpc://{host}:{port}"
