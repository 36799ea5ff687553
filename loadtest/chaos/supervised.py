"""A process that dies and is started again, as a supervisor (the kubelet, systemd) would.

With the same command and the same environment. Local mode has no supervisor of its own; Ray is one for replicas. What
must not live here: which process, when.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import replace

import psutil

from cluster.local import launch
from cluster.local.journal import read_journal
from cluster.local.rundir import RunDir
from loadtest.chaos.target import ChaosError

GONE_LIMIT_S = 10.0


class Supervised:
    """A process of the cluster's journal."""

    def __init__(self, run_dir: RunDir, name: str) -> None:
        """Remember how it was started.

        Raises:
            ChaosError: nothing of that name runs.
        """
        journal = read_journal(run_dir.journal)
        entry = None if journal is None else journal.process(name)
        if entry is None or not entry.is_alive():
            raise ChaosError(f"{name} does not run")
        self._run_dir, self._name = run_dir, name
        self._process = psutil.Process(entry.pid)
        self._argv, self._env = self._process.cmdline(), self._process.environ()

    async def kill(self) -> None:
        """`kill -9` of it and its children, at once."""
        killed = [self._process, *self._process.children(recursive=True)]
        for process in killed:
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)
        await asyncio.to_thread(psutil.wait_procs, killed, timeout=GONE_LIMIT_S)

    def start(self, variables: Mapping[str, str] | None = None) -> None:
        """Start it again; `longreach down` will know it.

        Args:
            variables: more of them for its environment.
        """
        journal = read_journal(self._run_dir.journal)
        assert journal is not None
        others = tuple(entry for entry in journal.processes if entry.name != self._name)
        journal = replace(journal, processes=others)
        launch.start(self._name, self._argv, {**self._env, **(variables or {})}, run_dir=self._run_dir, journal=journal)
