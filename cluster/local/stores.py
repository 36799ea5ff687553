"""The embedded Valkey servers of a cluster: starting them, and bringing the one for KV blocks back.

What must not live here: their settings (cluster/state/embedded.py), ending them (teardown.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from cluster.config import Config
from cluster.core.errors import SetupError
from cluster.deployment import Deployment
from cluster.local import launch
from cluster.local.fit import GIB
from cluster.local.journal import Journal
from cluster.local.rundir import RunDir
from cluster.sockets import free_port
from cluster.state import embedded

STATE_PROCESS = "redis"
CACHE_PROCESS = "cache"
STORES = frozenset({STATE_PROCESS, CACHE_PROCESS})


def start_state(env: Mapping[str, str], *, run_dir: RunDir, journal: Journal) -> tuple[str, Journal]:
    """Start the server for leases, quotas and residency; its address.

    Raises:
        SetupError: it cannot be started, or does not answer.
    """
    port = free_port()
    command = embedded.server_command(run_dir.valkey, port)
    journal = launch.start(STATE_PROCESS, command, env, run_dir=run_dir, journal=journal)
    embedded.wait_until_ping(port, name=STATE_PROCESS)
    return embedded.url(port), journal


def start_cache(
    config: Config, env: Mapping[str, str], *, run_dir: RunDir, journal: Journal, port: int | None = None
) -> tuple[str, Journal]:
    """Start the server for KV blocks; its address.

    Args:
        config: says how much it may hold.
        env: of the process.
        run_dir: of the cluster.
        journal: of its processes.
        port: None for a free one.

    Raises:
        SetupError: it cannot be started, or does not answer.
    """
    chosen = free_port() if port is None else port
    memory = embedded.cache_memory(int(config.redis.cache_gib * GIB))
    command = embedded.server_command(run_dir.valkey_cache, chosen, memory)
    journal = launch.start(CACHE_PROCESS, command, env, run_dir=run_dir, journal=journal)
    embedded.wait_until_ping(chosen, name=CACHE_PROCESS)
    return embedded.url(chosen), journal


def revive_cache(
    config: Config, deployment: Deployment, env: Mapping[str, str], *, run_dir: RunDir, journal: Journal
) -> Journal | None:
    """Start the server for KV blocks again where replicas look for it; None when it runs, or never did.

    Raises:
        SetupError: its port is taken, it cannot be started, or it does not answer.
    """
    entry = journal.process(CACHE_PROCESS)
    if entry is None or entry.is_alive() or deployment.cache_url is None:
        return None
    port = urlsplit(deployment.cache_url).port
    journal = replace(journal, processes=tuple(each for each in journal.processes if each != entry))
    try:
        return start_cache(config, env, run_dir=run_dir, journal=journal, port=port)[1]
    except SetupError as error:
        remedy = "the cluster serves without it; for a new one: longreach down, longreach up"
        raise SetupError(f"the server for KV blocks does not start again: {error.problem}", remedy) from error
