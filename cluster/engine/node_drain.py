"""The preStop hooks of Ray's pods: `python -m cluster.engine.node_drain worker|head --limit-s SECONDS`.

`worker` asks the replicas of its container to drain and waits until none of them has a request in flight. `head` waits
until no replica of its Ray cluster drains any more: raylets end themselves, and their replicas with them, a minute
after the GCS on the head is gone. Kubernetes sends SIGTERM when the hook has returned; cluster/core/drain.py adds up
what grace period that takes. The exit status is 1 where requests were still in flight at the limit, and Kubernetes then
writes an event (FailedPreStopHook). What must not live here: refusing work (gate.py), Ray.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from redis.exceptions import RedisError

from cluster.config import load_config
from cluster.core.drain import HEAD_NOTICE_S, NOTICE_S
from cluster.core.errors import ConfigError
from cluster.core.lease import Lease, ReplicaState
from cluster.engine.drain_folder import DrainFolder
from cluster.environment import read_environment
from cluster.state.leases import LeaseStore, connect
from cluster.state.login import state_server

POLL_S = 0.5
"""As often as replicas look themselves."""
CONFIG = Path("/etc/longreach/config/config.yaml")
"""Where the chart mounts it."""
SAY_EVERY_S = 30.0
"""A line about what is waited for."""

Say = Callable[[str], None]


async def drain_worker(folder: DrainFolder, *, limit_s: float, say: Say) -> bool:
    """Ask this container's replicas to drain, and wait for them.

    Args:
        folder: where they look.
        limit_s: the longest wait for their requests.
        say: takes lines for people.

    Returns:
        Whether nothing is in flight any more.
    """
    began_s = said_s = time.monotonic()
    folder.ask()
    while True:
        notes = folder.notes()
        busy = [note for note in notes if note.in_flight or not note.is_draining]
        if not busy:
            if notes:
                say(f"{len(notes)} replicas are drained after {time.monotonic() - began_s:.1f} s")
                await asyncio.sleep(NOTICE_S)
            return True
        now_s = time.monotonic()
        words = ", ".join(
            f"{note.replica_id} has {note.in_flight} in flight" if note.is_draining else f"{note.replica_id} was asked"
            for note in busy
        )
        if now_s - began_s >= limit_s:
            say(f"still busy after {limit_s:g} s: {words}")
            return False
        if now_s - said_s >= SAY_EVERY_S:
            said_s = now_s
            say(f"waiting: {words}")
        await asyncio.sleep(POLL_S)


async def wait_as_head(
    leases: Callable[[], Awaitable[Sequence[Lease]]], *, ray_cluster: str, limit_s: float, say: Say
) -> bool:
    """Wait until no replica of this Ray cluster drains, and has not for a while.

    For a while, because drains begin at different times and a starved replica may be late with a lease. Replicas that
    stay mean that this head leaves alone, its node being drained, say; then nobody gains by its staying.
    A store that does not answer says nothing, so the wait goes on to the limit: an idle head costs a little memory, one
    that ends early costs every stream.

    Args:
        leases: reads every lease of the state store.
        ray_cluster: this head's; leases without the name of one count as well, since older replicas write none.
        limit_s: the longest wait.
        say: takes lines for people.

    Returns:
        Whether it ended before the limit.
    """
    began_s = said_s = quiet_since_s = time.monotonic()
    while True:
        now_s = time.monotonic()
        try:
            own = [lease for lease in await leases() if lease.ray_cluster in {ray_cluster, ""}]
        except (RedisError, OSError) as error:
            quiet_since_s = now_s
            words = f"the state store does not answer: {error}"
        else:
            draining = [lease for lease in own if _may_be_leaving(lease)]
            words = f"{len(draining)} of {len(own)} replicas drain"
            if draining:
                quiet_since_s = now_s
            elif now_s - quiet_since_s >= HEAD_NOTICE_S:
                say(f"no replica drains, {len(own)} stay, after {now_s - began_s:.1f} s")
                return True
        if now_s - began_s >= limit_s:
            say(f"not over after {limit_s:g} s: {words}")
            return False
        if now_s - said_s >= SAY_EVERY_S:
            said_s = now_s
            say(f"waiting: {words}")
        await asyncio.sleep(POLL_S)


def _may_be_leaving(lease: Lease) -> bool:
    """Whether it drains. Behind an operator's mark its own word cannot be seen: then what it has left decides."""
    is_busy = lease.running > 0 or lease.waiting > 0
    return lease.state is ReplicaState.DRAINING and (is_busy or not lease.is_drained)


async def _as_head(config_path: Path, limit_s: float) -> bool:
    environment = read_environment()
    try:
        config = load_config(config_path)
    except ConfigError as error:
        _say(f"the configuration cannot be read, waiting {limit_s:g} s instead: {error}")
        await asyncio.sleep(limit_s)
        return False
    server = state_server(config.redis)
    if server is None:
        _say(f"the configuration names no state store, waiting {limit_s:g} s instead")
        await asyncio.sleep(limit_s)
        return True
    client = connect(server)
    try:
        return await wait_as_head(
            LeaseStore(client, config.cluster.name).leases,
            ray_cluster=environment.ray_cluster,
            limit_s=limit_s,
            say=_say,
        )
    finally:
        await client.aclose()


def _say(line: str) -> None:
    sys.stderr.write(f"node_drain: {line}\n")
    sys.stderr.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Wait until this node of a Ray cluster can be stopped.")
    commands = parser.add_subparsers(dest="role", required=True)
    worker = commands.add_parser("worker", help="drain the replicas of this container")
    head = commands.add_parser("head", help="wait for the workers' drains")
    head.add_argument("--config", type=Path, default=CONFIG, help=f"where the state store is named; default: {CONFIG}")
    for command in (worker, head):
        command.add_argument("--limit-s", type=float, required=True, help="longest wait")
    arguments = parser.parse_args(argv)
    if arguments.role == "head":
        is_over = asyncio.run(_as_head(arguments.config, arguments.limit_s))
    else:
        folder = DrainFolder(read_environment().drain_dir)
        is_over = asyncio.run(drain_worker(folder, limit_s=arguments.limit_s, say=_say))
    return 0 if is_over else 1


if __name__ == "__main__":
    sys.exit(main())
