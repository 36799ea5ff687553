"""Named shared memory of processes that are about to be ended: what a hard end would leave behind.

vLLM's processes talk through segments of 25 to 250 MB each; killed, they cannot remove them. What must not live here:
deciding who is ended (cluster/local/sweep.py, cluster/engine/orphans.py).
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's name for it


def shared_memory_of(processes: Iterable[psutil.Process]) -> set[Path]:
    """The named shared memory of these processes: what a hard end would leave behind.

    That is what they map shared and writable, directly below /dev/shm, where shm_open(3) makes it. Other files there
    are somebody's own: people keep models in /dev/shm, and weights are mapped read-only or privately.
    """
    return {
        file
        for process in processes
        for file, access in _mapped(process.pid)
        if access.startswith("rw") and access.endswith("s") and file.parent == SHARED_MEMORY
    }


def sweep_named(prefix: str, *, older_than_s: float) -> list[Path]:
    """Delete the files below /dev/shm whose names begin so, and that nobody maps and nobody made just now.

    Returns:
        What was deleted.
    """
    made_before_s = time.time() - older_than_s
    files = []
    for file in SHARED_MEMORY.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(FileNotFoundError):
            if file.stat().st_mtime < made_before_s:
                files.append(file)
    return remove_shared_memory(files)


def remove_shared_memory(files: Iterable[Path]) -> list[Path]:
    """Delete those of the files that no live process maps any more.

    Returns:
        What was deleted.
    """
    orphans = {file for file in files if file.is_file() and file.stat().st_uid == os.getuid()}
    if orphans:
        for pid in psutil.pids():
            orphans -= {file for file, _ in _mapped(pid)}
    for file in orphans:
        file.unlink(missing_ok=True)
    return sorted(orphans)


def _mapped(pid: int) -> set[tuple[Path, str]]:
    """What a process maps below /dev/shm, each with its access, like `rw-s` (proc_pid_maps(5))."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    fields = (line.split(maxsplit=5) for line in lines if f" {SHARED_MEMORY}/" in line)
    return {(Path(path), access) for _, access, *_, path in fields if not path.endswith(" (deleted)")}
