"""Programs of PyPI in packages of their own, for tests: their pins may contradict the project's.

Installed once for a lock and a Python, into the user's cache, with `--no-deps`: a lock is complete. What must not live
here: which program, and what it is asked (the module with its lock).
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs

from tests.kubernetes.artifacts import UnreachableError

INSTALL_LIMIT_S = 400
"""Checkov, the largest, has 291 MB unpacked: 70 s where nothing else runs."""
KEPT_MAX = 2
"""Locks of one program in the cache: two branches may take turns."""


def installed(name: str, lock: Path) -> Path:
    """The folder with a program's packages, for `PYTHONPATH` of a `python -S`.

    Args:
        name: of the program, and of its shelf in the cache.
        lock: its requirements, all pinned.

    Raises:
        UnreachableError: they cannot be installed here.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(lock.read_bytes() + version.encode()).hexdigest()[:16]
    shelf = platformdirs.user_cache_path("longreach") / "kubernetes-tests" / name
    kept = shelf / digest
    if kept.exists():
        return kept
    shelf.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".installing-", dir=shelf) as scratch:
        folder = Path(scratch) / "packages"
        _install(name, lock, folder)
        try:
            folder.rename(kept)
        except OSError:
            if not kept.exists():
                raise
    old = sorted(
        (path for path in shelf.iterdir() if not path.name.startswith(".")), key=lambda path: path.stat().st_mtime
    )
    for path in old[:-KEPT_MAX]:
        shutil.rmtree(path, ignore_errors=True)
    return kept


def _install(name: str, lock: Path, folder: Path) -> None:
    more = shlex.split(os.environ.get("LONGREACH_PIP_ARGS", ""))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *more]
    try:
        done = subprocess.run(
            [*command, "--target", str(folder), "--requirement", str(lock)],
            capture_output=True,
            text=True,
            timeout=INSTALL_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{name} was not installed within {INSTALL_LIMIT_S} s") from error
    if done.returncode != 0:
        raise UnreachableError(f"{name} cannot be installed: {done.stderr[-500:]}")
