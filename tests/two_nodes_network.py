"""A pod network: namespaces joined by a bridge that is in a namespace too, so that no packet leaves them.

Each name in it has a namespace and an address. Namespaces of a run that was killed are removed by the next one. What
must not live here: what runs inside (two_nodes_pod.py), which pods there are (two_nodes_cluster.py).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

PREFIX = "longreach-2n"
"""Of every namespace's name; the process that made it follows."""
SWITCH = "switch"
BRIDGE = "pods"
SUBNET = "198.18.0"
"""For measurements between devices (RFC 2544): nobody's network."""
ROUTER = f"{SUBNET}.1"
"""The bridge. Pods have a way out, as everywhere, because Ray finds its address by it; nothing is behind it."""
IP_LIMIT_S = 30
CLONE_NEWNET = 0x4000_0000
JOIN_LIMIT_S = 10
PLACE = re.compile(r"(?:\[::ffff:)?([0-9.]+|\*|\[::\])\]?:([0-9]+)")
Result = TypeVar("Result")


class NoNamespacesError(Exception):
    """This machine or user cannot have namespaces; the text says what is missing."""


def require_namespaces() -> None:
    """Raises `NoNamespacesError` where namespaces, veth pairs or bridges cannot be had."""
    if os.geteuid() != 0:
        raise NoNamespacesError("needs root: network namespaces and mounts")
    missing = [program for program in ("ip", "ss", "unshare", "nsenter", "setpriv") if shutil.which(program) is None]
    if missing:
        raise NoNamespacesError(f"needs {', '.join(missing)} (Debian: iproute2, util-linux)")
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--uts", "--fork", "ip", "link", "add", BRIDGE, "type", "bridge"],
        capture_output=True,
        text=True,
        timeout=IP_LIMIT_S,
        check=False,
    )
    if tried.returncode != 0:
        raise NoNamespacesError(f"namespaces or bridges are refused: {tried.stderr.strip()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNetwork:
    """Addresses by name; a name is a pod's, or whoever looks at pods from beside them."""

    addresses: dict[str, str]
    run: str

    def namespace(self, name: str) -> str:
        return f"{self.run}-{name}"

    def cut(self, name: str) -> None:
        """Pull a pod's cable: nothing arrives any more, and nobody is told."""
        _ip("-n", self.namespace(SWITCH), "link", "set", _port(self.addresses[name]), "down")

    def mend(self, name: str) -> None:
        """Put it back."""
        _ip("-n", self.namespace(SWITCH), "link", "set", _port(self.addresses[name]), "up")

    def listening(self, name: str) -> set[int]:
        """TCP ports that somebody in a pod listens on."""
        return {port for line in self._sockets(name, "-l") for _, port in _places(line)}

    def connections(self, name: str) -> list[tuple[str, int]]:
        """Other ends of a pod's TCP connections: address and port."""
        return [_places(line)[1] for line in self._sockets(name, "state", "established")]

    def _sockets(self, name: str, *which: str) -> list[str]:
        command = ["ip", "netns", "exec", self.namespace(name), "ss", "-H", "-t", "-n", *which]
        done = subprocess.run(command, capture_output=True, text=True, timeout=IP_LIMIT_S, check=True)
        return done.stdout.splitlines()


@contextmanager
def pod_network(names: Sequence[str]) -> Iterator[PodNetwork]:
    """A network for these names, gone at the end."""
    sweep()
    network = PodNetwork(
        addresses={name: f"{SUBNET}.{number}" for number, name in enumerate(names, start=10)},
        run=f"{PREFIX}-{os.getpid()}",
    )
    try:
        switch = network.namespace(SWITCH)
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", BRIDGE, "type", "bridge")
        _ip("-n", switch, "addr", "add", f"{ROUTER}/24", "dev", BRIDGE)
        _ip("-n", switch, "link", "set", BRIDGE, "up")
        for name, address in network.addresses.items():
            _join(network.namespace(name), address, switch)
        yield network
    finally:
        for name in (*network.addresses, SWITCH):
            subprocess.run(
                ["ip", "netns", "del", network.namespace(name)], capture_output=True, timeout=IP_LIMIT_S, check=False
            )


def sweep() -> None:
    """Remove namespaces of runs whose process is gone. What ran in them ended with it (two_nodes_pod.py)."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        owner = name.removeprefix(f"{PREFIX}-").split("-")[0]
        if name.startswith(f"{PREFIX}-") and owner.isdigit() and not psutil.pid_exists(int(owner)):
            _ip("netns", "del", name)


class Resident:
    """A thread that lives in a namespace and runs coroutines there: its sockets are of that network.

    Only addresses in numbers work: names would be looked up by other threads.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name=namespace, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """What a coroutine returns; it is cancelled where waiting for it is interrupted."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(JOIN_LIMIT_S)

    def _live(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/run/netns", self._namespace).open("rb") as handle:
            if libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter {self._namespace}")
        self._loop.run_forever()
        self._loop.close()


def _join(namespace: str, address: str, switch: str) -> None:
    """A namespace with a cable into the switch."""
    port = _port(address)
    _ip("netns", "add", namespace)
    _ip("-n", switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    _ip("-n", switch, "link", "set", port, "master", BRIDGE, "up")
    _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
    _ip("-n", namespace, "link", "set", "lo", "up")
    _ip("-n", namespace, "link", "set", "eth0", "up")
    _ip("-n", namespace, "route", "add", "default", "via", ROUTER)


def _port(address: str) -> str:
    """The switch's end of a cable."""
    return f"to-{address.rpartition('.')[2]}"


def _places(line: str) -> list[tuple[str, int]]:
    """Addresses and ports in a line of `ss`; it writes IPv4 addresses on IPv6 sockets in brackets."""
    return [(address, int(port)) for address, port in PLACE.findall(line)]


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=IP_LIMIT_S, check=False)
    assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr.strip()}"
    return done.stdout
