"""Compiles the fake engine and the load client, once for each state of their sources.

What must not live here: running them (engines.py, load.py).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluster.core.errors import SetupError

SOURCES = Path(__file__).with_name("native")
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O2", "-std=gnu11")
COMPILE_TIMEOUT_S = 120
"""It takes a second; a compiler that hangs should not hang the bench."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The two compiled programs."""

    engine: Path
    load: Path


def build(cache: Path) -> Programs:
    """The programs, compiled unless `cache` has them for exactly these sources.

    Raises:
        SetupError: there is no C compiler, or it refused.
        OSError: the cache cannot be written.
    """
    folder = cache / f"native-{sources_digest()}"
    programs = Programs(engine=folder / "fake_engine", load=folder / "load")
    if programs.engine.exists() and programs.load.exists():
        return programs
    compiler = find_compiler()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="compiling-") as work:
        _compile(compiler, "fake_*.c", Path(work) / programs.engine.name)
        _compile(compiler, "load*.c", Path(work) / programs.load.name)
        folder.mkdir(exist_ok=True)
        for program in (programs.engine, programs.load):
            # One rename each: another run that compiles at the same time finds whole programs only.
            (Path(work) / program.name).replace(program)
    return programs


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


def _compile(compiler: str, pattern: str, program: Path) -> None:
    sources = sorted(str(path) for path in SOURCES.glob(pattern))
    command = [compiler, *FLAGS, "-o", str(program), *sources]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMPILE_TIMEOUT_S)
    if result.returncode != 0:
        raise SetupError(
            f"{compiler} could not compile {program.name}:\n{result.stderr.strip()}",
            "install the C library's headers, for example: apt install libc6-dev (Linux 5.11 or newer is needed)",
        )
