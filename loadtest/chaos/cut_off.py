"""Processes that no TCP packet reaches any more, and none leaves, as when a machine's cable is pulled: nobody is told.

Their sockets of now are known by their ports, those to come by the control group that the processes are put into; the
kernel's packet filter drops what belongs to either. What must not live here: whom it happens to (faults/network.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from loadtest.chaos.target import ChaosError

GROUPS = Path("/sys/fs/cgroup")
"""Where `nft` looks for a group's name."""
MOUNTS = Path("/proc/self/mounts")
NAME = "longreach-chaos"
MEMBERS = "cgroup.procs"
LIMIT_S = 30
GONE_S = 5.0
"""A process that was killed leaves its group when its memory is gone."""
NONE = f"add table inet {NAME}; delete table inet {NAME}"
"""Whether there was one or not."""


def why_none() -> str:
    """Why this process cannot cut others off; empty: it may try."""
    if os.geteuid() != 0:
        return "dropping packets needs root"
    if shutil.which("nft") is None:
        return "dropping packets needs nft (Debian: nftables)"
    return "" if _root() is not None else "there are no control groups of version 2 that can be written"


@contextlib.contextmanager
def cut_off(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Drop every TCP packet from and to these processes, until the context is left.

    Raises:
        ChaosError: the packet filter refuses; then nothing is dropped.
    """
    root = _root()
    if root is None:
        raise ChaosError(why_none())
    group = root / NAME
    with contextlib.ExitStack() as stack:
        group.mkdir(exist_ok=True)
        stack.callback(_dissolve, group, {process.pid: _group_of(process.pid, root) for process in processes})
        for process in processes:
            (group / MEMBERS).write_text(str(process.pid), encoding="ascii")
        # After that: a socket made in between belongs to the group.
        connections = [one for process in processes for one in process.net_connections(kind="tcp")]
        stack.callback(_nft, NONE)
        _nft(_rules(group.relative_to(GROUPS), connections))
        yield


def _rules(group: Path, connections: Iterable[Any]) -> str:
    """Whose packets are dropped: the group's, those of what listens, and those of connections from both ends."""
    listening, pairs = set(), set()
    for one in connections:
        if one.status == psutil.CONN_LISTEN:
            listening.add(f"{one.laddr.port}")
        elif one.raddr:
            pairs |= {f"{one.laddr.port} . {one.raddr.port}", f"{one.raddr.port} . {one.laddr.port}"}
    dropped = ["tcp sport @listening", "tcp dport @listening", "tcp sport . tcp dport @pairs"]
    lines = [
        NONE,
        f"table inet {NAME} {{",
        f"set listening {{ type inet_service; {_elements(listening)} }}",
        f"set pairs {{ type inet_service . inet_service; {_elements(pairs)} }}",
    ]
    for chain in ("input", "output"):
        lines.append(f"chain {chain} {{ type filter hook {chain} priority -500;")
        lines += [f"{match} drop" for match in (f'meta l4proto tcp socket cgroupv2 level 1 "{group}"', *dropped)]
        lines.append("}")
    return "\n".join([*lines, "}"])


def _elements(members: set[str]) -> str:
    return f"elements = {{ {', '.join(sorted(members))} }}" if members else ""


def _root() -> Path | None:
    """The tree of version 2: alone, or beside that of version 1."""
    for line in MOUNTS.read_text(encoding="utf-8").splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2" and Path(folder).is_relative_to(GROUPS) and os.access(Path(folder, MEMBERS), os.W_OK):
            return Path(folder)
    return None


def _group_of(pid: int, root: Path) -> Path:
    for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
        if line.startswith("0::"):
            return root / line.removeprefix("0::/")
    return root


def _dissolve(group: Path, homes: dict[int, Path]) -> None:
    """Whoever is left in the group goes back to where it was."""
    until_s = time.monotonic() + GONE_S
    while True:
        for pid in map(int, (group / MEMBERS).read_text(encoding="ascii").split()):
            with contextlib.suppress(ProcessLookupError):
                (homes.get(pid, group.parent) / MEMBERS).write_text(str(pid), encoding="ascii")
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.1)
        else:
            return


def _nft(rules: str) -> None:
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=rules, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ChaosError(f"nft: nothing within {LIMIT_S} s") from error
    if done.returncode != 0:
        raise ChaosError(f"nft: {done.stderr.strip()}")
