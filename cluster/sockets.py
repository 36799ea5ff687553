"""Who listens where on this machine, from Linux's own tables.

Standard library only, because the bootstrap runs before anything is installed. What must not live here: an opinion
on which port should be free.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

COMMAND_CHARACTERS_MAX = 200
LISTEN = "0A"
"""The kernel's number of the TCP state LISTEN (include/net/tcp_states.h)."""


@dataclass(frozen=True)
class Listener:
    """A TCP socket in the state LISTEN."""

    address: str
    port: int
    inode: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        address = ipaddress.ip_address(self.address)
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback


@dataclass(frozen=True)
class Owner:
    """The process behind a socket."""

    pid: int
    command: str


def listeners(proc: Path = Path("/proc")) -> tuple[Listener, ...]:
    """Every listening TCP socket of this network namespace."""
    found: list[Listener] = []
    for name in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue  # a kernel without IPv6 has no tcp6
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN:
                address, _, port = fields[1].partition(":")
                found.append(Listener(address=_address(address), port=int(port, 16), inode=int(fields[9])))
    return tuple(found)


def listeners_of(pids: Iterable[int]) -> tuple[Listener, ...]:
    """The listening sockets that these processes hold."""
    inodes = {inode for pid in pids for inode in _socket_inodes(pid)}
    return tuple(listener for listener in listeners() if listener.inode in inodes)


def owner_of_port(port: int, host: str | None = None) -> Owner | None:
    """Who listens on `port`, in the way of a server at `host`; None when nobody does, or this user may not know."""
    inodes = {found.inode for found in listeners() if found.port == port and _overlap(found.address, host)}
    if not inodes:
        return None
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and inodes & _socket_inodes(int(entry.name)):
            return Owner(pid=int(entry.name), command=_command(int(entry.name)))
    return None


def is_port_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    return listen_refusal(host, port) is None


def listen_refusal(host: str, port: int) -> OSError | None:
    """Why a server could not listen there now; None when it could. EADDRINUSE is a port that is taken."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        # Servers set it too: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on, chosen by the kernel; somebody may still take it before it is used."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own; names are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _address(text: str) -> str:
    """The kernel prints 32-bit words in the machine's byte order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    return str(ipaddress.ip_address(packed))


def _socket_inodes(pid: int) -> set[int]:
    inodes: set[int] = set()
    try:
        handles = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return inodes
    for handle in handles:
        try:
            target = str(handle.readlink())
        except OSError:
            continue  # closed since it was listed
        if target.startswith("socket:["):
            inodes.add(int(target[8:-1]))
    return inodes


def _command(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "?"
    # On one line, whatever the arguments hold: it is read in messages.
    return " ".join(raw.replace(b"\0", b" ").decode(errors="replace").split())[:COMMAND_CHARACTERS_MAX] or "?"


def _overlap(address: str, host: str | None) -> bool:
    """Whether a listener at `address` keeps another from listening at `host`; a name that needs looking up may."""
    try:
        wanted = ipaddress.ip_address(host or "")
    except ValueError:
        return True
    taken = ipaddress.ip_address(address)
    return taken == wanted or taken.is_unspecified or wanted.is_unspecified
