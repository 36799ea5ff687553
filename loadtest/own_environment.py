"""Environments for other projects' programs: made once with pip, never the one that Longreach runs in.

What must not live here: which programs, and how they are run.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def make_environment(
    folder: Path, requirements: Sequence[str | Path], *, variables: Mapping[str, str], timeout_s: float
) -> str | None:
    """Make an environment, or complete the one that is there.

    Args:
        folder: where it will be.
        requirements: what `pip install` is told.
        variables: the environment, for PATH and for pip.
        timeout_s: for each of both steps.

    Returns:
        Why it could not be made; None when it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    what = str(requirements[0])
    pip = ["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", *map(str, requirements)]
    for argv in ([sys.executable, "-m", "venv", str(folder)], [str(folder / "bin" / "python"), *pip]):
        try:
            result = subprocess.run(
                argv, capture_output=True, text=True, check=False, timeout=timeout_s, env=dict(variables)
            )
        except subprocess.TimeoutExpired:
            return f"installing {what} took more than {timeout_s:g} s"
        if result.returncode != 0:
            last = (result.stderr.strip() or result.stdout.strip()).splitlines()[-1:]
            return f"{what} cannot be installed: {' '.join(last)}"
    return None
