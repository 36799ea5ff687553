"""What `up` has started so far, on disk before the next step begins: any later command can end it.

What must not live here: starting and ending processes.
"""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path


class Phase(enum.StrEnum):
    """How far `up` came."""

    STARTING = "starting"
    RUNNING = "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedProcess:
    """A process we started; the start time tells it from a later one with the same pid."""

    name: str
    pid: int
    start_ticks: int
    """Clock ticks from boot to its start. A time of day would not do: it moves when somebody sets the clock."""

    def is_alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return start_ticks(self.pid) == self.start_ticks


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The file `processes.json`."""

    run: str
    phase: Phase
    source: str
    """The configuration file `up` was given."""
    began_s: float = 0.0
    """When `up` began, seconds since the epoch: an external Redis remembers replicas of earlier runs."""
    url: str = ""
    """The gateway's address, without /v1."""
    dropped_pools: tuple[str, ...] = ()
    """Pools of the configuration that memory did not hold."""
    processes: tuple[StartedProcess, ...] = ()

    def with_process(self, process: StartedProcess) -> Journal:
        """The journal after one more start."""
        return replace(self, processes=(*self.processes, process))

    def process(self, name: str) -> StartedProcess | None:
        """The latest process of this name."""
        return next((entry for entry in reversed(self.processes) if entry.name == name), None)

    def save(self, path: Path) -> None:
        """Write it in one step."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        partial.replace(path)


def read_journal(path: Path) -> Journal | None:
    """The journal of a cluster; None when there is none that this version can read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        processes = tuple(StartedProcess(**entry) for entry in data.pop("processes"))
        data["phase"] = Phase(data["phase"])
        data["dropped_pools"] = tuple(data["dropped_pools"])
        return Journal(**data, processes=processes)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it does not run, a zombie included (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The second field is the name in parentheses, which may itself hold spaces and parentheses.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else int(fields[START_TICKS_INDEX])


START_TICKS_INDEX = 18
"""Field 22 of the line; counted from the fourth, which follows the state."""
