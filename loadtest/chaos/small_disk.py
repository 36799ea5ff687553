"""A small file system for a cluster's run folder and models, so that it can be filled without harm.

What must not live here: filling it (faults/machine.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cluster.environment import Environment

SOURCE = "longreach-chaos"
"""By which it is known among the mounts."""
SIZE = "768m"
MOUNTS = Path("/proc/self/mounts")


def why_none() -> str:
    """Why this process cannot have one; empty: it may try."""
    if os.geteuid() != 0:
        return "a file system that can be filled needs root"
    return "" if shutil.which("mount") else "there is no `mount`"


def is_small_disk(path: Path) -> bool:
    """Whether `path` is on one."""
    return any(path.is_relative_to(folder) for folder in _mounted())


@contextlib.contextmanager
def small_disk(environment: Environment) -> Iterator[Environment]:
    """An environment whose folders are on it; the given one where there can be none.

    Always in the same place, which the caller holds alone: what a run left that was killed is found there by the next.
    """
    folder = (environment.state_home / SOURCE).absolute()
    with contextlib.ExitStack() as stack:
        if why_none() or not _mount(folder):
            yield environment
            return
        stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=False)
        state, cache = folder / "state", folder / "cache"
        variables = {**environment.variables, "LONGREACH_STATE": str(state), "LONGREACH_CACHE": str(cache)}
        yield replace(environment, state_folder=state, cache_folder=cache, variables=variables)


def _mount(folder: Path) -> bool:
    if folder in _mounted():
        return True
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", SOURCE, str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _mounted() -> list[Path]:
    try:
        lines = MOUNTS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return [Path(line.split()[1]) for line in lines if line.split()[0] == SOURCE]
