"""Starting a process of a cluster: marked, logged, in its own session, and in the journal before anything else.

What must not live here: which processes there are, and in what order.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.core.errors import SetupError
from cluster.environment import DRAIN_DIR_VARIABLE
from cluster.local.credential import without_credential
from cluster.local.journal import Journal, StartedProcess, start_ticks
from cluster.local.rundir import RUN_DIR_VARIABLE, RUN_VARIABLE, RunDir

LOG_TAIL_LINES = 15
YIELDING_NICE = 10
"""A tenth of the weight of others, when they want the cores; all of them when nobody does."""


def marked(variables: Mapping[str, str], *, run_dir: RunDir, run: str) -> dict[str, str]:
    """The environment every process of a cluster gets; what only some get comes on top (credential.py)."""
    return {
        **without_credential(variables),
        RUN_DIR_VARIABLE: str(run_dir.root),
        RUN_VARIABLE: run,
        # Clusters of one user share /tmp, where it is by default.
        DRAIN_DIR_VARIABLE: str(run_dir.drain),
        # Ray and vLLM rename their processes, by default over the memory that holds the environment: without this
        # the marker is lost. Named in the documentation of setproctitle.
        "SPT_NOENV": "1",
        # On one machine there is nowhere to drain to; Ray would wait for half a minute.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "PYTHONUNBUFFERED": "1",
    }


def start(
    name: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    run_dir: RunDir,
    journal: Journal,
    is_yielding: bool = False,
) -> Journal:
    """Start `argv` as `name`; it outlives this process.

    Args:
        name: of the log and in the journal.
        argv: the command.
        env: its whole environment; see `marked`.
        run_dir: where its log goes.
        journal: saved with the new process before this returns.
        is_yielding: it and its descendants keep cores busy for long, and everything else goes first.

    Raises:
        SetupError: it cannot be started.
    """
    with run_dir.log(name).open("ab") as log:
        try:
            process = subprocess.Popen(  # not a context manager: it is meant to outlive us
                argv,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own session: Ctrl-C at the terminal reaches `up` alone, which then ends things in order.
                start_new_session=True,
                cwd=run_dir.root,
            )
        except OSError as error:
            raise SetupError(
                f"{name} cannot be started: {error}", "run `make up` again to repair the environment"
            ) from error
    if is_yielding:
        yield_to_others(process.pid)
    # None when it has ended already; no process started at tick 0, so it will be found dead.
    entry = StartedProcess(name=name, pid=process.pid, start_ticks=start_ticks(process.pid) or 0)
    journal = journal.with_process(entry)
    journal.save(run_dir.journal)
    # The journal and /proc know it from here on; a Popen that is dropped while its child runs would only warn.
    process.returncode = 0
    return journal


def yield_to_others(pid: int) -> None:
    """Lower the weight of the process's whole session (sched(7), autogroup; anybody may lower their own).

    A session is scheduled as one. On two cores with Linux 6.18, one with decoding engines kept all others waiting for
    seconds: the gateway, Valkey, a new shell; lowered, for milliseconds, and it decoded as fast as before. Where the
    kernel has no autogroups, nothing needs to be done.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(YIELDING_NICE), encoding="ascii")


def log_tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The end of a log, for an error message."""
    try:
        found = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(found[-lines:])


def require_alive(name: str, *, run_dir: RunDir, journal: Journal) -> None:
    """Check that a started process still runs.

    Raises:
        SetupError: it ended; the end of its log is in the message.
    """
    entry = journal.process(name)
    if entry is None or entry.is_alive():
        return
    log = run_dir.log(name)
    raise SetupError(f"{name} ended unexpectedly:\n{log_tail(log)}", f"its whole log is {log}")
