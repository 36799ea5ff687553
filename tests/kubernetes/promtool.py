"""Prometheus itself and its promtool, out of Debian's package: fetched once into the user's cache, not installed.

What must not live here: rules, tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

import platformdirs

PACKAGE = "prometheus"
FETCH_LIMIT_S = 300
"""Twenty megabytes over a slow line. Longer is a mirror that does not answer."""
RUN_LIMIT_S = 300
"""Testing all rules takes five seconds of CPU: they see a day go by. On a busy machine that is a minute."""


class UnreachableError(Exception):
    """No apt, or no mirror that has the package: a reason to skip, which a test cannot cure."""


class PromtoolError(Exception):
    """promtool ended badly; the text is what it said."""


def program_of_prometheus(name: Literal["prometheus", "promtool"]) -> Path:
    """One of the package's programs.

    Raises:
        UnreachableError: where it cannot be had.
    """
    installed = shutil.which(name)
    if installed is not None:
        return Path(installed)
    kept = platformdirs.user_cache_path("longreach") / "prometheus"
    program = kept / "usr" / "bin" / name
    if not program.exists():
        _fetch(kept)
    return program


def run(program: Path, *arguments: str, folder: Path) -> str:
    """What promtool says.

    Raises:
        PromtoolError: it found something wrong.
    """
    done = subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, timeout=RUN_LIMIT_S, check=False
    )
    said = done.stdout + done.stderr
    if done.returncode != 0:
        raise PromtoolError(said)
    return said


def _fetch(kept: Path) -> None:
    """Download and unpack; apt checks the mirror's signature, and nothing of the package is run by that."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as made:
        folder = Path(made)
        _call("apt-get", "download", PACKAGE, folder=folder)
        found = next(folder.glob("*.deb"), None)
        if found is None:
            raise UnreachableError(f"apt-get downloaded no {PACKAGE}")
        unpacked = folder / "unpacked"
        _call("dpkg", "-x", str(found), str(unpacked), folder=folder)
        # Somebody else may have been faster: theirs is as good.
        with contextlib.suppress(OSError):
            unpacked.rename(kept)


def _call(*command: str, folder: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=FETCH_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreachableError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise UnreachableError(f"{' '.join(command[:2])}: {(done.stderr or done.stdout).strip()[-300:]}")
