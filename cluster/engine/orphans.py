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
"""`PID:START` of the replica process; the start time tells a reused pid apart."""
START_FIELD = 19
"""Of /proc/PID/stat, counted behind the command's name: the start in ticks since boot (proc_pid_stat(5), starttime)."""


def mark_own_engine() -> None:
    """Mark this process as the owner of the engine it is about to start."""
    os.environ[OWNER_VARIABLE] = _identity(os.getpid())
    # vLLM renames its processes, by default over the memory that holds the mark. Named in setproctitle's documentation.
    os.environ["SPT_NOENV"] = "1"


def engine_processes() -> list[psutil.Process]:
    """The processes this replica's engine runs in, wherever they hang in the process tree."""
    own = _identity(os.getpid())
    return [process for process, owner in _marked() if owner == own and process.pid != os.getpid()]


def reap_orphans() -> list[int]:
    """End engine processes whose replica is gone.

    Returns:
        Their process ids.
    """
    reaped = []
    for process, owner in _marked():
        if process.pid == os.getpid() or _is_alive(owner):
            continue
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
            reaped.append(process.pid)
    return reaped


def _marked() -> Iterator[tuple[psutil.Process, str]]:
    mark = OWNER_VARIABLE.encode() + b"="
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        # psutil decodes every variable of every process; this looks for one, in a tenth of the time.
        with contextlib.suppress(OSError, psutil.Error):
            for variable in (entry / "environ").read_bytes().split(b"\0"):
                if variable.startswith(mark):
                    yield psutil.Process(int(entry.name)), variable[len(mark) :].decode()


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
