"""Ending a cluster: in order where there is an order, completely in any case.

What must not live here: deciding to (up.py after a failure, `longreach down`), printing.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.core.errors import SetupError
from cluster.local.journal import Journal, StartedProcess, read_journal
from cluster.local.rundir import RunDir
from cluster.local.stores import STORES
from cluster.local.sweep import end, members, sweep
from cluster.shared_memory import remove_shared_memory, shared_memory_of

GATEWAY_DRAIN_S = 5.0
"""Answers in flight get this long: whoever takes a cluster down on their own machine is waiting for it."""
SWEEP_GRACE_S = 3.0
"""`ray start --block` ends its children within two seconds when asked (measured); all of them are asked at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a teardown found and ended."""

    processes: int
    shared_memory: tuple[Path, ...]


def tear_down(run_dir: RunDir) -> Ended:
    """End every process of the cluster at `run_dir` and remove what it left; doing it twice is fine.

    Raises:
        SetupError: a process could not be ended.
    """
    journal = read_journal(run_dir.journal)
    found = members(run_dir.root)
    pids = {process.pid for process in found}
    memory = shared_memory_of(found)
    _end_named(journal, "gateway", GATEWAY_DRAIN_S)
    # The stores go last, so that replicas can still withdraw their leases.
    stores = {entry.pid for entry in journal.processes if entry.name in STORES} if journal else set()
    rest = [process for process in members(run_dir.root) if process.pid not in stores]
    pids |= {process.pid for process in rest}
    memory |= shared_memory_of(rest)
    end(rest, grace_s=SWEEP_GRACE_S)
    left = sweep(run_dir.root, grace_s=SWEEP_GRACE_S)
    if left:
        names = ", ".join(str(process.pid) for process in left)
        raise SetupError(f"these processes did not end: {names}", "end them by hand (they hang in the kernel)")
    removed = remove_shared_memory(memory)
    run_dir.clear()
    return Ended(processes=len(pids), shared_memory=tuple(removed))


def _end_named(journal: Journal | None, name: str, grace_s: float) -> None:
    entry: StartedProcess | None = journal.process(name) if journal else None
    if entry is None or not entry.is_alive():
        return
    with contextlib.suppress(psutil.Error):
        end([psutil.Process(entry.pid)], grace_s=grace_s)
