"""A Valkey server for KV blocks, for as long as the local cluster brings none along itself.

To be removed, with its one call in cluster.py, once `longreach up` starts one by itself: `BenchCluster` then takes its
address from the deployment. What must not live here: the cluster.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cluster.core.errors import SetupError
from cluster.environment import Environment
from cluster.local import interrupt
from cluster.local.launch import log_tail, marked
from cluster.local.rundir import RunDir
from cluster.local.teardown import tear_down
from cluster.sockets import free_port
from cluster.state import embedded

MEMORY_BYTES = 2 << 30
"""Blocks of all policies' runs of the default workload take a quarter of it."""
NAME = "bench-prefix-cache"


@contextlib.contextmanager
def cache_server(environment: Environment) -> Iterator[str]:
    """A server that is empty at the start and gone at the end; its URL.

    It carries the mark of a run folder of its own, so that the next bench finds and ends what a killed one left.

    Raises:
        SetupError: it cannot be started.
    """
    run_dir = RunDir(root=environment.run_dir(NAME).absolute())
    tear_down(run_dir)
    run_dir.prepare()
    try:
        port = free_port()
        _start(run_dir, environment, port)
        yield embedded.url(port)
    finally:
        with interrupt.deferred():
            tear_down(run_dir)


def _start(run_dir: RunDir, environment: Environment, port: int) -> None:
    program, file = embedded.server_command(run_dir.valkey, port)
    log: Path = run_dir.log("cache")
    with log.open("ab") as out:
        process = subprocess.Popen(
            [program, file, "--maxmemory", str(MEMORY_BYTES)],
            env=marked(environment.variables, run_dir=run_dir, run=str(os.getpid())),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        embedded.wait_until_ping(port)
    except SetupError as error:
        process.kill()
        raise SetupError(f"no Valkey server for KV blocks:\n{log_tail(log)}", f"its whole log is {log}") from error
    # It is known by its mark from here on; a Popen that is dropped while its child runs would only warn.
    process.returncode = 0
