"""Two fake engines, and their leases in a state store: what a gateway in production finds in front of itself.

What must not live here: routers, measuring.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from cluster.core.errors import SetupError
from cluster.core.lease import LEASE_RENEW_S, Lease, PoolName, ReplicaId, ReplicaState
from cluster.sockets import free_port
from cluster.state import embedded
from cluster.state.leases import LeaseStore, connect
from loadtest.bench.bodies import MODEL
from loadtest.bench.machine import pinned
from loadtest.bench.processes import start

ENGINES = 2
CONTROL_TIMEOUT_S = 10
POOLS = {"short": 8_192, "long": 262_144}
"""Pools of the gateway under test with their context limits in tokens; both engines are members of both."""
CLUSTER = "bench"
MAX_RUNNING = 4_096
"""Requests an engine takes at once: engines are not what is measured, so nothing should wait for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The running fake engines."""

    ports: tuple[int, ...]
    pids: tuple[int, ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        """Their addresses."""
        return tuple(f"http://127.0.0.1:{port}" for port in self.ports)

    def pace(self, *, ttft_ms: float = 0.0, itl_ms: float = 0.0) -> None:
        """Set the time to the first token and between tokens, for requests to come."""
        for port in self.ports:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CONTROL_TIMEOUT_S)
            with contextlib.closing(connection):
                connection.request("GET", f"/ctl?ttft_us={int(ttft_ms * 1000)}&itl_us={int(itl_ms * 1000)}")
                connection.getresponse().read()


@contextlib.contextmanager
def running_engines(program: Path, *, core: int) -> Iterator[Engines]:
    """Run fake engines on `core`.

    Raises:
        SetupError: one did not start.
    """
    with contextlib.ExitStack() as stack:
        ports, pids = [], []
        for number in range(1, ENGINES + 1):
            argv = [str(program), "--name", f"engine-{number}", "--model", MODEL]
            with pinned(core):
                process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.strip().isdigit():
                raise SetupError("the fake engine did not start", f"run it by hand to see why: {program}")
            ports.append(int(line))
            pids.append(process.pid)
        yield Engines(ports=tuple(ports), pids=tuple(pids))


@contextlib.contextmanager
def running_state(folder: Path, *, core: int) -> Iterator[str]:
    """Run an embedded Valkey server on `core`; its address.

    Raises:
        SetupError: it cannot be started.
    """
    port = free_port()
    started = start(embedded.server_command(folder, port), core=core, log=folder / "valkey.log")
    try:
        embedded.wait_until_ping(port)
        yield embedded.url(port)
    finally:
        started.end()


@contextlib.contextmanager
def kept_leases(state_url: str, engines: Engines) -> Iterator[None]:
    """Renew the engines' leases as replicas do, from a thread of this process."""
    stop = threading.Event()
    first = threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(_renew(state_url, leases_of(engines), first, stop)), name="leases", daemon=True
    )
    thread.start()
    first.wait(embedded.START_TIMEOUT_S)
    try:
        yield
    finally:
        stop.set()
        thread.join()


def leases_of(engines: Engines) -> tuple[Lease, ...]:
    """One lease for each pool and engine, as of an idle replica."""
    return tuple(
        Lease(
            replica_id=ReplicaId(f"{pool}-{number}"),
            pool=PoolName(pool),
            model=MODEL,
            url=url,
            state=ReplicaState.READY,
            context_tokens=context_tokens,
            running=0,
            waiting=0,
            kv_use_ratio=0.0,
            step_age_s=0.0,
            max_running=MAX_RUNNING,
        )
        for pool, context_tokens in POOLS.items()
        for number, url in enumerate(engines.urls, 1)
    )


async def _renew(state_url: str, leases: Sequence[Lease], first: threading.Event, stop: threading.Event) -> None:
    redis = connect(state_url)
    store = LeaseStore(redis, CLUSTER)
    while not stop.is_set():
        # A lease outlives several renewals: one that fails is written half a second later.
        with contextlib.suppress(RedisError, OSError):
            for lease in leases:
                await store.put_lease(lease)
            first.set()
        await asyncio.sleep(LEASE_RENEW_S)
    await redis.aclose()
