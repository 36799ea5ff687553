"""Starting and ending the processes of a bench, each on its core.

What must not live here: which processes there are.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench.machine import pinned

LOG_TAIL_LINES = 12
KILL_WAIT_S = 10
"""A killed process is gone at once unless the kernel waits for a disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A process of its own session or group, with its log."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self.process.poll() is not None

    def log_tail(self) -> str:
        """The end of its log, for an error message."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def end(self) -> None:
        """Kill it and everything in its group; nothing it holds is needed any more."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(KILL_WAIT_S)


def start(
    argv: Sequence[str | Path],
    *,
    core: int | None,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    own_session: bool = True,
) -> Started:
    """Start a program with its output in `log`.

    Args:
        argv: what is started.
        core: where it runs; None: anywhere.
        log: gets its output.
        env: its environment; None: this process's.
        cwd: where it starts.
        own_session: whether Linux gives it a share of the cores of its own (autogroup). Without, it shares this
            process's, as its children do, and has only a process group of its own.

    Raises:
        OSError: it cannot be started.
    """
    with log.open("ab") as out, contextlib.nullcontext() if core is None else pinned(core):
        process = subprocess.Popen(
            [str(part) for part in argv],
            env=None if env is None else dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=own_session,
            process_group=None if own_session else 0,
        )
    return Started(process=process, log=log)
