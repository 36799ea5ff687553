"""Finding and ending every process of a cluster, and only those.

A process belongs to a cluster when its environment carries the cluster's run folder: Ray's workers and the engine's
processes inherit it, however they detach. What must not live here: the order in which a cluster is ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil

from cluster.local.rundir import RUN_DIR_VARIABLE

KILL_WAIT_S = 10.0
"""A killed process is gone at once, unless the kernel still writes out its memory."""
SWEEPS_MAX = 5
"""A supervisor may start a process between our look and our signal; each round leaves fewer supervisors."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's name for it


def members(run_dir: Path) -> list[psutil.Process]:
    """The live processes of the cluster at `run_dir`, without this process and its ancestors."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    marker = f"{RUN_DIR_VARIABLE}={run_dir}".encode()
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid in spared or process.pid in found or not _carries(process.pid, marker):
            continue
        found[process.pid] = process
        # A child may have replaced its environment; its parent shows where it belongs.
        with contextlib.suppress(psutil.Error):
            found.update({child.pid: child for child in process.children(recursive=True)})
    return [process for pid, process in found.items() if pid not in spared and _is_live(process)]


def end(processes: Iterable[psutil.Process], *, grace_s: float) -> None:
    """Ask the processes to end, and kill those that have not after `grace_s`."""
    asked = list(processes)
    for process in asked:
        _signal(process, signal.SIGTERM)
    _, stubborn = psutil.wait_procs(asked, timeout=grace_s)
    for process in stubborn:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(stubborn, timeout=KILL_WAIT_S)


def sweep(run_dir: Path, *, grace_s: float) -> list[psutil.Process]:
    """End every process of the cluster.

    Returns:
        What is left: empty, unless a process hangs in the kernel.
    """
    for _ in range(SWEEPS_MAX):
        found = members(run_dir)
        if not found:
            return []
        end(found, grace_s=grace_s)
        # The first round asked politely; what appears later was started by something that is now gone.
        grace_s = 0.0
    return members(run_dir)


def shared_memory_of(processes: Iterable[psutil.Process]) -> set[Path]:
    """The named shared-memory files these processes have mapped: what a hard end would leave behind."""
    found: set[Path] = set()
    for process in processes:
        found |= _mapped(process.pid)
    return found


def remove_shared_memory(files: Iterable[Path]) -> list[Path]:
    """Delete those of the files that no live process maps any more.

    Returns:
        What was deleted.
    """
    orphans = {file for file in files if file.is_file()}
    if orphans:
        for process in psutil.process_iter():
            orphans -= _mapped(process.pid)
    for file in orphans:
        file.unlink(missing_ok=True)
    return sorted(orphans)


def _carries(pid: int, marker: bytes) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # ended, or another user's
    return marker in environment.split(b"\0")


def _is_live(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)
        if number is signal.SIGTERM and process.status() == psutil.STATUS_STOPPED:
            # A stopped process hears SIGTERM only once it runs again.
            process.send_signal(signal.SIGCONT)


def _mapped(pid: int) -> set[Path]:
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    prefix = f"{SHARED_MEMORY}/"
    paths = (line[line.index(prefix) :] for line in lines if prefix in line)
    return {Path(path) for path in paths if not path.endswith(" (deleted)")}
