"""A bench's own cluster: started for it, and gone when it ends, however it ends.

It has a name and a run folder of its own, so that it never meets a cluster that runs here already. What must not live
here: what is measured.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from cluster.core.errors import SetupError
from cluster.environment import Environment
from cluster.exclusive import HeldError, hold
from cluster.local import interrupt
from cluster.local.down import down
from cluster.local.journal import read_journal
from cluster.local.rundir import RunDir
from cluster.local.up import up
from cluster.sockets import listen_refusal

PORTS = range(35_000, 60_000, 1_000)
"""Where the replicas' ports may begin: beyond those of a cluster with the usual configuration."""
PORTS_PROBED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCluster:
    """A running cluster."""

    url: str
    config_file: Path
    """A change to it takes effect with `cluster.local.reload`."""
    run_dir: RunDir


@contextlib.contextmanager
def own_cluster(
    name: str,
    configuration: Callable[[Path, int], Mapping[str, Any]],
    *,
    purpose: str,
    environment: Environment,
    console: Console,
) -> Iterator[OwnCluster]:
    """The cluster, up; it is down when the context is left.

    Args:
        name: of the cluster.
        configuration: makes it from a folder for further files, which lives as long, and the first port of replicas.
        purpose: who holds the cluster, for a second one that wants it.
        environment: says where run folders are.
        console: for the progress of starting.

    Raises:
        SetupError: this machine cannot run it, or another bench is at work.
        ModelStoreError: the model cannot be had.
        InterruptedBySignal: after everything has been taken down again.
    """
    run_dir = RunDir(root=environment.run_dir(name).absolute())
    folder = Path(tempfile.mkdtemp(prefix="longreach-bench-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        # Beside the run folder: `up` holds the lock within it, while it works.
        stack.enter_context(alone(run_dir.root.with_name(f"{run_dir.root.name}.lock"), purpose=purpose))
        # What a bench left that was killed. Its cluster may even run on, with another configuration.
        down(run_dir)
        config_file = folder / "config.yaml"
        config_file.write_text(yaml.safe_dump(dict(configuration(folder, _first_port()))), encoding="utf-8")
        stack.callback(_take_down, run_dir, console)
        result = up(config_file, environment, console)
        yield OwnCluster(url=result.url, config_file=config_file, run_dir=run_dir)


@contextlib.contextmanager
def alone(lock: Path, *, purpose: str) -> Iterator[None]:
    """Keep a second one that wants the same out.

    Raises:
        SetupError: somebody holds it already.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with hold(lock, purpose=purpose):
            yield
    except HeldError as held:
        raise SetupError(str(held), f"wait until it is done, or end it: kill {held.pid}") from None


def _take_down(run_dir: RunDir, console: Console) -> None:
    if read_journal(run_dir.journal) is None:
        return  # never started, or `up` has taken it down again
    console.print("Taking the bench's cluster down", style="dim")
    with interrupt.deferred():
        down(run_dir)


def _first_port() -> int:
    starts = list(PORTS)
    random.SystemRandom().shuffle(starts)
    for first in starts:
        if all(listen_refusal("127.0.0.1", port) is None for port in range(first, first + PORTS_PROBED)):
            return first
    raise SetupError("no free ports for the bench's replicas", "end what listens on ports from 35000 to 60000")
