"""The preStop hooks of Ray's pods: `python -m cluster.engine.node_drain worker|rank|head --limit-s SECONDS`.

`worker` asks the replicas of its container to drain and waits until none of them has a request in flight. `head` waits
until no replica of its Ray cluster drains any more: raylets end themselves, and their replicas with them, a minute
after the GCS on the head is gone. `rank` is for pods that hold ranks of replicas on several hosts: beside what `worker`
does it takes every such replica of its Ray cluster out of use and waits until they have no request left, since none of
them says on which hosts it is. Kubernetes sends SIGTERM when the hook has returned;
cluster/core/drain.py adds up what grace period that takes. The exit status is 1 where requests were still in flight at
the limit, and Kubernetes then writes an event (FailedPreStopHook). What must not live here: refusing work (gate.py),
Ray.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from cluster.config import load_config
from cluster.core.drain import HEAD_NOTICE_S, NOTICE_S
from cluster.core.errors import ConfigError
from cluster.core.lease import LEASE_TTL_S, Lease, ReplicaId, ReplicaState
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
MARK_S = 60.0
"""A mark on a replica outlives the hook by as much: Ray's own drain (30 s) and stop (20 s) come after it, and until its
rank is gone the replica must get no request. Replicas that had none here are used again then."""

Say = Callable[[str], None]


class _Wait:
    """A wait with a limit, which tells now and then what for."""

    def __init__(self, limit_s: float, say: Say) -> None:
        self._limit_s = limit_s
        self._say = say
        self._began_s = self._said_s = time.monotonic()

    @property
    def age_s(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self._began_s

    async def goes_on(self, words: str, *, verdict: str = "not over") -> bool:
        """Pause until the next look; False at the limit, with the verdict."""
        now_s = time.monotonic()
        if now_s - self._began_s >= self._limit_s:
            self._say(f"{verdict} after {self._limit_s:g} s: {words}")
            return False
        if now_s - self._said_s >= SAY_EVERY_S:
            self._said_s = now_s
            self._say(f"waiting: {words}")
        await asyncio.sleep(POLL_S)
        return True


async def drain_worker(folder: DrainFolder, *, limit_s: float, say: Say) -> bool:
    """Ask this container's replicas to drain, and wait for them.

    Args:
        folder: where they look.
        limit_s: the longest wait for their requests.
        say: takes lines for people.

    Returns:
        Whether nothing is in flight any more.
    """
    wait = _Wait(limit_s, say)
    try:
        folder.ask()
    except OSError as error:
        # The replicas go on serving; what time there is may still be enough for some of their streams.
        say(f"the replicas cannot be asked, waiting {limit_s:g} s instead: {error}")
        await asyncio.sleep(limit_s)
        return False
    while True:
        notes = folder.notes()
        busy = [note for note in notes if note.in_flight or not note.is_draining]
        if not busy:
            if notes:
                say(f"{len(notes)} replicas are drained after {wait.age_s:.1f} s")
                await asyncio.sleep(NOTICE_S)
            return True
        words = ", ".join(
            f"{note.replica_id} has {note.in_flight} in flight" if note.is_draining else f"{note.replica_id} was asked"
            for note in busy
        )
        if not await wait.goes_on(words, verdict="still busy"):
            return False


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
    wait = _Wait(limit_s, say)
    quiet_since_s = time.monotonic()
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
                say(f"no replica drains, {len(own)} stay, after {wait.age_s:.1f} s")
                return True
        if not await wait.goes_on(words):
            return False


async def wait_as_rank(
    store: LeaseStore, *, ray_cluster: str, pools: Collection[str], limit_s: float, say: Say
) -> bool:
    """Take the replicas that may have a rank here out of use, and wait until they have nothing left.

    Args:
        store: of the leases.
        ray_cluster: this pod's.
        pools: those whose replicas span hosts.
        limit_s: the longest wait.
        say: takes lines for people.

    Returns:
        Whether nothing was in flight at the end.
    """
    wait = _Wait(limit_s, say)
    quiet_since_s: float | None = None
    marked: set[ReplicaId] = set()
    while True:
        now_s = time.monotonic()
        try:
            own = [each for each in await store.leases() if each.pool in pools and each.ray_cluster == ray_cluster]
            await _keep_out(store, own, marked)
        except (RedisError, OSError) as error:
            quiet_since_s = None
            words = f"the state store does not answer: {error}"
        else:
            busy = [lease for lease in own if _is_busy(lease) or lease.state is not ReplicaState.DRAINING]
            words = f"{len(busy)} of {len(own)} replicas on several hosts have requests"
            quiet_since_s = None if busy else (quiet_since_s or now_s)
            # A lease may be as old as this, and a request that was sent before the mark may not be in it yet.
            if quiet_since_s is not None and now_s - quiet_since_s >= LEASE_TTL_S:
                say(f"{len(own)} replicas on several hosts are idle after {wait.age_s:.1f} s")
                return True
        if not await wait.goes_on(words):
            return False


async def _keep_out(store: LeaseStore, leases: Sequence[Lease], marked: set[ReplicaId]) -> None:
    """Mark replicas as drained, again and again; those that an operator marked keep that mark, which may be longer."""
    for lease in leases:
        if lease.replica_id in marked or not lease.is_drained:
            await store.drain(lease.replica_id, MARK_S)
            marked.add(lease.replica_id)


def _is_busy(lease: Lease) -> bool:
    return lease.running > 0 or lease.waiting > 0


def _may_be_leaving(lease: Lease) -> bool:
    """Whether it drains. Behind an operator's mark its own word cannot be seen: then what it has left decides."""
    return lease.state is ReplicaState.DRAINING and (_is_busy(lease) or not lease.is_drained)


async def _by_leases(config_path: Path, limit_s: float, *, is_head: bool) -> bool:
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
        store = LeaseStore(client, config.cluster.name)
        cluster = environment.ray_cluster
        if is_head:
            return await wait_as_head(store.leases, ray_cluster=cluster, limit_s=limit_s, say=_say)
        pools = {pool.name for pool in config.pools if pool.hosts > 1}
        return await wait_as_rank(store, ray_cluster=cluster, pools=pools, limit_s=limit_s, say=_say)
    finally:
        await client.aclose()


async def _hook(role: str, config_path: Path, limit_s: float) -> bool:
    waits: list[Coroutine[Any, Any, bool]] = []
    if role != "head":
        waits.append(drain_worker(DrainFolder(read_environment().drain_dir), limit_s=limit_s, say=_say))
    if role != "worker":
        waits.append(_by_leases(config_path, limit_s, is_head=role == "head"))
    return all(await asyncio.gather(*waits))


def _say(line: str) -> None:
    sys.stderr.write(f"node_drain: {line}\n")
    sys.stderr.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Wait until this node of a Ray cluster can be stopped.")
    commands = parser.add_subparsers(dest="role", required=True)
    worker = commands.add_parser("worker", help="drain the replicas of this container")
    rank = commands.add_parser("rank", help="drain them, and every replica that spans hosts")
    head = commands.add_parser("head", help="wait for the workers' drains")
    for command in (rank, head):
        place = f"where the state store is named; default: {CONFIG}"
        command.add_argument("--config", type=Path, default=CONFIG, help=place)
    for command in (worker, rank, head):
        command.add_argument("--limit-s", type=float, required=True, help="longest wait")
    arguments = parser.parse_args(argv)
    config = CONFIG if arguments.role == "worker" else arguments.config
    return 0 if asyncio.run(_hook(arguments.role, config, arguments.limit_s)) else 1


if __name__ == "__main__":
    sys.exit(main())
