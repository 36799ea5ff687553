"""A small file system for a cluster's run folder and models, so that it can be filled without harm.

What must not live here: filling it (faults/machine.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cluster.environment import Environment

SIZE = "768m"


def why_none() -> str:
    """Why this process cannot have one; empty: it can."""
    if os.geteuid() != 0:
        return "a file system that can be filled needs root"
    return "" if shutil.which("mount") else "there is no `mount`"


@contextlib.contextmanager
def small_disk(environment: Environment) -> Iterator[Environment]:
    """An environment whose folders are on it; the given one where there can be none."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="longreach-disk-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if why_none() or not _mounted(folder):
            yield environment
            return
        stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=False)
        state, cache = folder / "state", folder / "cache"
        variables = {**environment.variables, "LONGREACH_STATE": str(state), "LONGREACH_CACHE": str(cache)}
        yield replace(environment, state_folder=state, cache_folder=cache, variables=variables)


def _mounted(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "longreach-chaos", str(folder)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
