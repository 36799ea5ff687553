"""Engine processes that outlived their replica: found by a mark in their environment, and ended.

`kill -9` of a replica leaves vLLM's EngineCore and workers running with all their memory. Every replica marks its own
environment, which those processes inherit; whoever carries the mark of a dead replica is an orphan. What must not
live here: ending processes without that mark.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil

OWNER_VARIABLE = "LONGREACH_ENGINE_OWNER"
"""`SCOPE:PID:START` of the replica process. The start time tells a reused pid apart; the scope is the cluster, so that
one cluster never judges the processes of another on the same machine."""
START_FIELD = 19
"""Of /proc/PID/stat, counted behind the command's name: the start in ticks since boot (proc_pid_stat(5), starttime)."""


def mark_own_engine(scope: str) -> None:
    """Mark this process as the owner of the engine it is about to start; `scope` names its cluster."""
    os.environ[OWNER_VARIABLE] = f"{scope}:{_identity(os.getpid())}"
    # vLLM renames its processes, by default over the memory that holds the mark. Named in setproctitle's documentation.
    os.environ["SPT_NOENV"] = "1"


def engine_processes() -> list[psutil.Process]:
    """The processes this replica's engine runs in, wherever they hang in the process tree."""
    own = _identity(os.getpid())
    return [process for process, _, owner in _marked() if owner == own and process.pid != os.getpid()]


def reap_orphans(scope: str) -> list[int]:
    """End engine processes of the cluster named `scope` whose replica is gone.

    Returns:
        Their process ids.
    """
    reaped = []
    for process, marked_scope, owner in _marked():
        if marked_scope != scope or process.pid == os.getpid() or _is_alive(owner):
            continue
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
            reaped.append(process.pid)
    return reaped


def _marked() -> Iterator[tuple[psutil.Process, str, str]]:
    mark = OWNER_VARIABLE.encode() + b"="
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        # psutil decodes every variable of every process; this looks for one, in a tenth of the time.
        with contextlib.suppress(OSError, psutil.Error):
            for variable in (entry / "environ").read_bytes().split(b"\0"):
                if variable.startswith(mark):
                    scope, _, owner = variable[len(mark) :].decode().partition(":")
                    yield psutil.Process(int(entry.name)), scope, owner


def _is_alive(owner: str) -> bool:
    pid, _, _ = owner.partition(":")
    try:
        return _identity(int(pid)) == owner and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError, ValueError):
        return False


def _identity(pid: int) -> str:
    """Ticks since boot, unlike psutil's creation time, do not move when the machine's clock is set."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return f"{pid}:{fields[START_FIELD]}"
