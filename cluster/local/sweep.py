"""Finding and ending every process of a cluster, and only those.

A process belongs to a cluster when its environment carries the cluster's run folder: Ray's workers and the engine's
processes inherit it, however they detach. A user may run several clusters: whoever carries another run folder, or sees
another root folder (a container), is never touched. What must not live here: the order in which a cluster is ended.
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


def members(run_dir: Path) -> list[psutil.Process]:
    """The live processes of the cluster at `run_dir`, without this process and its ancestors."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    # Not psutil.process_iter: it keeps an ended process for a new one that got the same id.
    for pid in psutil.pids():
        if pid in spared or pid in found or _run_dir_of(pid) != run_dir or not _sees_our_root(pid):
            continue
        with contextlib.suppress(psutil.Error):
            process = found[pid] = psutil.Process(pid)
            # A child may have replaced its environment; its parent shows where it belongs.
            children = process.children(recursive=True)
            found.update({child.pid: child for child in children if _run_dir_of(child.pid) in {None, run_dir}})
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


def _run_dir_of(pid: int) -> Path | None:
    """The run folder of the cluster a process belongs to; None for most processes."""
    marker = f"{RUN_DIR_VARIABLE}=".encode()
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None  # ended, or another user's
    named = next((entry for entry in environment.split(b"\0") if entry.startswith(marker)), None)
    return Path(os.fsdecode(named.removeprefix(marker))) if named is not None else None


def _sees_our_root(pid: int) -> bool:
    """Whether a path means the same to a process as to us; in a container it does not."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/"))  # noqa: PTH116 - samestat's partner
    except OSError:
        return False


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
