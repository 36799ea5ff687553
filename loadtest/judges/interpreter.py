"""The Python that has a judge: one that was named, one that Longreach made for it, or Longreach's own.

What must not live here: what a judge does.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import SetupError
from cluster.exclusive import HeldError, hold
from loadtest.judges.judge import Judge
from loadtest.own_environment import make_environment

INSTALL_TIMEOUT_S = 1800
"""guidellm's packages are over a gigabyte where torch comes as a CUDA build."""
ASK_TIMEOUT_S = 60
"""Of a Python that starts and reads one file, on a busy machine."""
ASK = """
import importlib.metadata, sys
try:
    print(importlib.metadata.version(sys.argv[1]))
except importlib.metadata.PackageNotFoundError:
    pass
"""
COMPLETE = "complete"
"""A file in an environment whose installation ended well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python that has the judge."""

    python: Path
    version: str
    """Of the judge."""


def find_interpreter(
    judge: Judge, named: Path | None, *, cache: Path, variables: Mapping[str, str], say: Callable[[str], None]
) -> Interpreter:
    """The Python to run a judge with.

    Args:
        judge: which.
        named: what the user asked for; None: the judge's own environment, else the Python that runs this.
        cache: folder for environments; an installation is kept.
        variables: the environment, for pip.
        say: told before what takes long.

    Raises:
        SetupError: it does not have the judge, or an environment could not be made.
    """
    python = named
    if python is None:
        python = Path(sys.executable)
        if judge.distribution.environment:
            python = _own_environment(judge, cache=cache, variables=variables, say=say) / "bin" / "python"
    version = _version_in(python, judge.distribution.name)
    if version is None:
        raise SetupError(f"{python} has no {judge.distribution.name}", judge.distribution.remedy)
    return Interpreter(python=python, version=version)


def _own_environment(judge: Judge, *, cache: Path, variables: Mapping[str, str], say: Callable[[str], None]) -> Path:
    found = judge.distribution
    folder = cache / f"{found.name}-{found.version}"
    try:
        with hold(folder.with_name(f"{folder.name}.lock"), purpose=f"installing {found.name}"):
            if (folder / COMPLETE).exists():
                return folder
            say(f"installing {found.name} {found.version} into an environment of its own, once: some minutes")
            # What an installation left that was cut off.
            shutil.rmtree(folder, ignore_errors=True)
            why = make_environment(folder, found.environment, variables=variables, timeout_s=INSTALL_TIMEOUT_S)
            if why is not None:
                shutil.rmtree(folder, ignore_errors=True)
                raise SetupError(why, found.remedy)
            (folder / COMPLETE).touch()
            return folder
    except HeldError as held:
        raise SetupError(str(held), f"wait until it is done, or end it: kill {held.pid}") from None


def _version_in(python: Path, distribution: str) -> str | None:
    """The version of a distribution in an interpreter; None where it has none.

    Raises:
        SetupError: it is no Python that runs.
    """
    code = (
        "import importlib.metadata as m, sys\ntry: print(m.version(sys.argv[1]))\nexcept m.PackageNotFoundError: pass"
    )
    try:
        done = subprocess.run(
            [str(python), "-c", code, distribution], capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SetupError(f"{python} is no Python that runs here: {error}", "name another with --python") from error
    return done.stdout.strip() or None
