"""Compiles the fake engine and the load clients, once for each state of their sources.

What must not live here: running them (engines.py, load.py).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import SetupError

SOURCES = Path(__file__).with_name("native")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O2", "-std=gnu11")
PROGRAMS = {
    "fake_engine": ("fake_*.c",),
    "load": ("load*.c",),
    "grpc_load": ("grpc_*.c", "load_*.c"),
}
"""Each program's sources."""
COMPILE_TIMEOUT_S = 120
"""It takes a second; a compiler that hangs should not hang the bench."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The compiled programs."""

    engine: Path
    load: Path
    grpc_load: Path


def build(cache: Path) -> Programs:
    """The programs, compiled unless `cache` has them for exactly these sources.

    Raises:
        SetupError: there is no C compiler, or it refused.
        OSError: the cache cannot be written.
    """
    folder = cache / f"native-{sources_digest()}"
    programs = {name: folder / name for name in PROGRAMS}
    if not all(program.exists() for program in programs.values()):
        _compile_all(cache, folder)
    return Programs(engine=programs["fake_engine"], load=programs["load"], grpc_load=programs["grpc_load"])


def _compile_all(cache: Path, folder: Path) -> None:
    compiler = find_compiler()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="compiling-") as work:
        for name, patterns in PROGRAMS.items():
            _compile(compiler, patterns, Path(work) / name)
        folder.mkdir(exist_ok=True)
        for name in PROGRAMS:
            # One rename each: another run that compiles at the same time finds whole programs only.
            (Path(work) / name).replace(folder / name)


def sources_digest() -> str:
    """Sixteen digits that change with any source."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for path in sorted(SOURCES.glob("*.[ch]")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def find_compiler() -> str:
    """A C compiler of this machine.

    Raises:
        SetupError: there is none.
    """
    for name in COMPILERS:
        found = shutil.which(name)
        if found is not None:
            return found
    raise SetupError(
        f"there is no C compiler ({', '.join(COMPILERS)}): the fake engine and the load client are C programs",
        "install one, for example: apt install gcc libc6-dev",
    )


def _compile(compiler: str, patterns: Sequence[str], program: Path) -> None:
    sources = sorted(str(path) for pattern in patterns for path in SOURCES.glob(pattern))
    command = [compiler, *FLAGS, "-o", str(program), *sources]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_TIMEOUT_S)
    if result.returncode != 0:
        raise SetupError(
            f"{compiler} could not compile {program.name}:\n{result.stderr.strip()}",
            "install the C library's headers, for example: apt install libc6-dev (Linux 5.11 or newer is needed)",
        )
