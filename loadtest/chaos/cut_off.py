"""Processes that no TCP packet reaches any more, and none leaves, as when a machine's cable is pulled: nobody is told.

Their sockets of now are known by their ports, those to come by the control group that the processes are put into; the
kernel's packet filter drops what belongs to either. What must not live here: whom it happens to (faults/network.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from loadtest.chaos.target import ChaosError

GROUPS = Path("/sys/fs/cgroup")
"""Where `nft` looks for a group's name."""
MOUNTS = Path("/proc/self/mounts")
NAME = "longreach-chaos"
MEMBERS = "cgroup.procs"
LIMIT_S = 30
NONE = f"add table inet {NAME}; delete table inet {NAME}"
"""Whether there was one or not."""
RULES = """
{none}
table inet {name} {{
  set ports {{ type inet_service; elements = {{ {ports} }} }}
  chain sent {{
    type filter hook output priority -500
    socket cgroupv2 level 1 "{group}" drop
    tcp sport @ports drop
    tcp dport @ports drop
  }}
  chain received {{
    type filter hook input priority -500
    socket cgroupv2 level 1 "{group}" drop
  }}
}}
"""


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
        stack.callback(_dissolve, group, root)
        for process in processes:
            (group / MEMBERS).write_text(str(process.pid), encoding="ascii")
        # After that: a socket made in between belongs to the group.
        ports = sorted({port for process in processes for port in _ports(process)})
        stack.callback(_nft, NONE)
        _nft(RULES.format(none=NONE, name=NAME, ports=", ".join(map(str, ports)), group=group.relative_to(GROUPS)))
        yield


def _ports(process: psutil.Process) -> list[int]:
    return [place.laddr.port for place in process.net_connections(kind="tcp") if place.laddr]


def _root() -> Path | None:
    """The tree of version 2: alone, or beside that of version 1."""
    for line in MOUNTS.read_text(encoding="utf-8").splitlines():
        _, folder, kind, *_ = line.split()
        if kind == "cgroup2" and Path(folder).is_relative_to(GROUPS) and os.access(Path(folder, MEMBERS), os.W_OK):
            return Path(folder)
    return None


def _dissolve(group: Path, root: Path) -> None:
    """Whoever is left in the group goes back to where all others are."""
    for pid in (group / MEMBERS).read_text(encoding="ascii").split():
        with contextlib.suppress(ProcessLookupError):
            (root / MEMBERS).write_text(pid, encoding="ascii")
    group.rmdir()


def _nft(rules: str) -> None:
    done = subprocess.run(["nft", "-f", "-"], input=rules, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode != 0:
        raise ChaosError(f"nft: {done.stderr.strip()}")
