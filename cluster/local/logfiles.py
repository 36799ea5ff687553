"""Where a local cluster's logs are, their ends, and what is added to them.

What must not live here: writing them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.core.errors import SetupError
from cluster.local.rundir import RunDir

TAIL_BYTES_MAX = 4 * 2**20
"""Enough for thousands of lines without reading a log of gigabytes."""
FOLLOW_INTERVAL_S = 0.3


def log_files(run_dir: RunDir, name: str) -> list[Path]:
    """The files of `name`: a process's own log, or one for each replica a pool has had, oldest first.

    Raises:
        SetupError: there is none; it says which there are.
    """
    found = _find(run_dir, name)
    if found:
        return found
    names = sorted({_owner(path) for path in run_dir.logs.glob("*.log")}) if run_dir.logs.is_dir() else []
    raise SetupError(
        f"no log of {name!r} in {run_dir.logs}",
        f"there are: {', '.join(names)}" if names else "start a cluster with `longreach up`",
    )


def last_lines(path: Path, lines: int) -> list[str]:
    """The end of a file."""
    if lines == 0:
        return []
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES_MAX))
        text = file.read().decode(errors="replace")
    return text.splitlines()[-lines:]


def follow_logs(run_dir: RunDir, name: str, files: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Lines as they are written, in files that are there and in those of replicas to come; never ends by itself."""
    # Where it begins is fixed by the call, not by the first line that is asked for.
    return _follow(run_dir, name, {path: path.stat().st_size for path in files})


def _follow(run_dir: RunDir, name: str, offsets: dict[Path, int]) -> Iterator[tuple[Path, str]]:
    rests: dict[Path, bytes] = {}
    while True:
        for path in _find(run_dir, name):
            offset = offsets.setdefault(path, 0)
            with path.open("rb") as file:
                if path.stat().st_size < offset:
                    offset = 0  # cut by a new `up`
                file.seek(offset)
                added = file.read(TAIL_BYTES_MAX)
            offsets[path] = offset + len(added)
            *whole, rests[path] = (rests.get(path, b"") + added).split(b"\n")
            for line in whole:
                yield path, line.decode(errors="replace")
        time.sleep(FOLLOW_INTERVAL_S)


def _find(run_dir: RunDir, name: str) -> list[Path]:
    own = run_dir.log(name)
    if own.is_file():
        return [own]
    replicas = [path for path in run_dir.logs.glob("pool-*.log") if _owner(path) == name]
    # Serve's own words about a replica, for one that failed before its log was opened.
    replicas += run_dir.ray.glob(f"session_latest/logs/serve/replica_pool-{name}_*.log")
    return sorted(replicas, key=lambda path: path.stat().st_mtime)


def _owner(path: Path) -> str:
    """`pool-short-x1y2.log` belongs to short, `gateway.log` to the gateway."""
    if path.stem.startswith("pool-"):
        return path.stem.removeprefix("pool-").rpartition("-")[0]
    return path.stem
