"""Whether the environment on disk is the one that is wanted, complete and whole.

The stamp is written last and in one step, so an interrupted installation has none and is never taken for complete.
What must not live here: installing anything.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

STAMP_NAME = "longreach-stamp.json"
LAYOUT_VERSION = 1
"""Raised when the bootstrap itself starts to build environments differently."""


@dataclass(frozen=True)
class Stamp:
    """What an environment was made from."""

    digest: str
    accelerator: str
    python: str

    def write(self, environment: Path) -> None:
        """Declare the environment complete."""
        partial = environment / (STAMP_NAME + ".partial")
        partial.write_text(json.dumps(asdict(self)), encoding="utf-8")
        partial.replace(environment / STAMP_NAME)


def wanted_stamp(root: Path, accelerator: str) -> Stamp:
    """The stamp of an environment made now from the repository at `root`."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(f"{LAYOUT_VERSION}\n{python}\n{root}\n".encode())
    for path in (root / "locks" / f"{accelerator}.txt", root / "pyproject.toml"):
        digest.update(path.read_bytes())
    return Stamp(digest=digest.hexdigest(), accelerator=accelerator, python=python)


def read_stamp(environment: Path) -> Stamp | None:
    """The stamp of a complete environment; None when there is none."""
    try:
        return Stamp(**json.loads((environment / STAMP_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def drop_stamp(environment: Path) -> None:
    """Declare the environment incomplete, before the first change to it."""
    (environment / STAMP_NAME).unlink(missing_ok=True)


def discard_broken_packages(site_packages: Path) -> tuple[str, ...]:
    """Forget packages that a killed installation left half written, so that pip installs them again.

    pip takes a package for installed as soon as its dist-info has METADATA; what RECORD promises may be missing.

    Returns:
        The forgotten packages.
    """
    broken: list[str] = []
    for info in sorted(site_packages.glob("*.dist-info")):
        if not _is_whole(site_packages, info):
            shutil.rmtree(info)
            broken.append(info.name.removesuffix(".dist-info"))
    # pip renames a package's folder to ~name while it replaces it; killed there, it stays.
    for leftover in site_packages.glob("~*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    return tuple(broken)


def _is_whole(site_packages: Path, info: Path) -> bool:
    try:
        with (info / "RECORD").open(encoding="utf-8", newline="") as record:
            for row in csv.reader(record):
                path, size = row[0], row[2] if len(row) > 2 else ""  # noqa: PLR2004 - RECORD: path, hash, size
                # Only package files carry a size. Byte code that a wheel brings (numpy's does) is compiled anew.
                if size and not path.endswith(".pyc") and (site_packages / path).stat().st_size != int(size):
                    return False
    except (OSError, ValueError, IndexError):
        return False
    return True
