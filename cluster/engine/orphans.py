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

from cluster.shared_memory import remove_shared_memory, shared_memory_of

OWNER_VARIABLE = "LONGREACH_ENGINE_OWNER"
"""`SCOPE:PID:START` of the replica process. The start time tells a reused pid apart; the scope is the cluster, so that
one cluster never judges the processes of another on the same machine."""
KILL_WAIT_S = 5.0
"""A killed process is gone at once, unless the kernel still writes out its memory."""
ENGINE_TITLE = "VLLM::"
WARM_PARENT_TITLE = "longreach::warm-parent"
WARM_PARENT = "cluster.engine.warm.parent"
"""In its command line, where it has found no room for the title."""
SPAWNED = "--multiprocessing-fork"
"""How multiprocessing ends the command line of what it spawns; its own helpers have none."""
START_FIELD = 19
"""Of /proc/PID/stat, counted behind the command's name: the start in ticks since boot (proc_pid_stat(5), starttime)."""


def mark_own_engine(scope: str) -> None:
    """Mark this process as the owner of the engine it is about to start; `scope` names its cluster."""
    os.environ[OWNER_VARIABLE] = f"{scope}:{identity(os.getpid())}"
    # vLLM renames its processes, by default over the memory that holds the mark. Named in setproctitle's documentation.
    os.environ["SPT_NOENV"] = "1"


def engine_processes(replica_pid: int | None = None) -> list[psutil.Process]:
    """The processes a replica's engine runs in, wherever they hang in the process tree; by default this replica's."""
    pid = os.getpid() if replica_pid is None else replica_pid
    own = identity(pid)
    return [process for process, _, owner in _marked() if owner == own and process.pid != pid]


def runs_engine(process: psutil.Process) -> bool:
    """Whether a process of an engine is its core or a worker, and not a helper, which may end as it likes.

    vLLM titles them. But setproctitle finds no room for a title where the first variable of the process's environment
    was changed before, and Ray starts its workers with their variables in any order: then the command line by which
    the process was spawned is still there, and the parent from which it was forked.
    """
    line = process.cmdline()
    if not line:
        return False
    return ENGINE_TITLE in line[0] or SPAWNED in line or _was_forked(process)


def is_core(process: psutil.Process, replica_pid: int) -> bool:
    """Whether a process that `runs_engine` is the core, and not a worker.

    Where it was spawned it may lack its title, and is the replica's child; where it was forked it has it.
    """
    return process.ppid() == replica_pid or f"{ENGINE_TITLE}EngineCore" in process.cmdline()[0]


def is_warm_parent(process: psutil.Process) -> bool:
    """Whether it is a replica's warm parent, or was forked from one and has no title yet."""
    return any(WARM_PARENT_TITLE in part or WARM_PARENT in part for part in process.cmdline())


def _was_forked(process: psutil.Process) -> bool:
    parent = process.parent()
    return parent is not None and is_warm_parent(parent)


def reap_orphans(scope: str) -> list[int]:
    """End engine processes of the cluster named `scope` whose replica is gone.

    Returns:
        Their process ids.
    """
    orphans = [
        process
        for process, marked_scope, owner in _marked()
        if marked_scope == scope and process.pid != os.getpid() and not is_alive(owner)
    ]
    end(orphans)
    return [process.pid for process in orphans]


def end(processes: list[psutil.Process]) -> None:
    """Kill an engine's processes, and remove the shared memory that they then cannot remove themselves."""
    files = shared_memory_of(processes)
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=KILL_WAIT_S)
    remove_shared_memory(files)


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


def is_alive(owner: str) -> bool:
    """Whether the process with this `identity` still runs; a zombie does not."""
    pid, _, _ = owner.partition(":")
    try:
        return identity(int(pid)) == owner and psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError, ValueError):
        return False


def identity(pid: int) -> str:
    """`PID:START` of a process. Ticks since boot, unlike psutil's creation time, do not move when the clock is set.

    Raises:
        OSError: it does not run.
    """
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return f"{pid}:{fields[START_FIELD]}"
