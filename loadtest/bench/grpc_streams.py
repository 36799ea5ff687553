"""Streams over gRPC: the gateway beside the least that a gRPC server in Python can do, round by round.

Streams of 100 tokens, 64 at a time, at three paces: as fast as they go, where tokens wait and the gateway joins them;
about as fast as a bare server keeps up with; and far below that. The server under test has a core; client, engines and
Valkey share the other. What must not live here: the bare server (bare_grpc.py), starting gateways (routers.py), what
the figures are (grpc_results.py).
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import loadtest
from loadtest.bench import native
from loadtest.bench.bare_grpc import METHOD, SERVICE
from loadtest.bench.bodies import MARK, MODEL, Bodies
from loadtest.bench.engines import Engines, kept_leases, running_engines, running_state
from loadtest.bench.gateway import Watcher
from loadtest.bench.grpc_results import BARE, BURST, FULL, OURS, PACED, Measured, Rounds
from loadtest.bench.load import GrpcCall, GrpcLoadClient
from loadtest.bench.machine import Cores, busy_s, cpu_s, pinned
from loadtest.bench.processes import start
from loadtest.bench.results import Row
from loadtest.bench.routers import Longreach, Place, RouterFailedError, Serving, serving
from services.grpc.generated.longreach.v1 import chat_pb2

TOKENS = 100
STEPS = 9
"""Of a round: each of three loads on the bare server, on the gateway, and on the bare server again."""
BARE_READY_S = 30.0
"""It imports gRPC and listens: a second, more on a machine that does something else."""
POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how much."""

    repeats: int = 3
    connections: int = 8
    streams: int = 8
    """On each connection."""
    itl_ms: Mapping[str, float] = field(default_factory=lambda: {BURST: 0.0, FULL: 2.0, PACED: 20.0})
    """Between two tokens of a stream, by load: with 64 streams no limit, 32,000 tokens a second in all, and 3,200."""
    seconds: float = 8.0
    """Of each load on the gateway; half of it on each of the bare server's two runs."""
    warm_seconds: float = 1.5


QUICK = Plan(
    repeats=1,
    connections=2,
    streams=4,
    itl_ms={BURST: 0.0, FULL: 1.0, PACED: 3.0},
    seconds=1.2,
    warm_seconds=0.2,
)
"""For tests: every step, and no figure worth keeping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcBench:
    """One comparison, ready to run."""

    plan: Plan
    cores: Cores
    cache: Path
    """Compiled programs are kept here."""
    tokenizer: Path
    variables: Mapping[str, str]
    watcher: Watcher

    def run(self) -> tuple[Row, ...]:
        """Measure everything.

        Raises:
            SetupError: this machine cannot run the bench.
            RouterFailedError: a server does not serve.
            LoadFailedError: the load client failed.
        """
        programs = native.build(self.cache)
        self.watcher.begins(self.plan.repeats * STEPS)
        rounds = Rounds()
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="longreach-bench-")))
            # This process renews leases and draws: it must not take time from the server.
            stack.enter_context(pinned(self.cores.load))
            engines = stack.enter_context(running_engines(programs.engine, core=self.cores.load))
            state_url = stack.enter_context(running_state(folder / "state", core=self.cores.load))
            stack.enter_context(kept_leases(state_url, engines))
            api_key = f"lr-{secrets.token_urlsafe(24)}"
            load = GrpcLoadClient(program=programs.grpc_load, core=self.cores.load, api_key=api_key)
            for number in range(self.plan.repeats):
                place = Place(
                    folder=folder / f"round-{number}",
                    core=self.cores.router,
                    engine_urls=engines.urls,
                    state_url=state_url,
                    api_key=api_key,
                    variables=self.variables,
                )
                place.folder.mkdir()
                self._round(place, engines, load, rounds)
        return rounds.rows()

    def _round(self, place: Place, engines: Engines, load: GrpcLoadClient, rounds: Rounds) -> None:
        """Start every server anew, and put each load on both."""
        plan = self.plan
        gateway = Longreach(name=OURS, is_static=False, tokenizer=self.tokenizer)
        probe = Bodies(place.folder).short(max_tokens=1, stream=False)
        call = GrpcCall(path=f"/{SERVICE}/{METHOD}", message=_request(place.folder), chunks=TOKENS)

        with serving(gateway, place, probe) as ours:
            for kind, itl_ms in plan.itl_ms.items():
                engines.pace(itl_ms=itl_ms)
                with bare_server(place, itl_ms) as bare:
                    turns = ((BARE, bare, plan.seconds / 2), (OURS, ours, plan.seconds), (BARE, bare, plan.seconds / 2))
                    runs = []
                    for name, server, seconds in turns:
                        runs.append(self._measured(load, call, server, seconds, itl_ms))
                        self.watcher.step(f"{name}{kind}", "streams")
                before, via, after = runs
                rounds.add(kind, via, (before, after))

    def _measured(
        self, load: GrpcLoadClient, call: GrpcCall, server: Serving, seconds: float, itl_ms: float
    ) -> Measured:
        how = {"connections": self.plan.connections, "streams": self.plan.streams}
        port = server.grpc_port or server.port
        load.run(port, call, seconds=self.plan.warm_seconds, **how)
        pid, core = server.started.pid, self.cores.load
        began_s, cpu_before_s, busy_before_s = time.monotonic(), cpu_s(pid), busy_s(core)
        result = load.run(port, call, seconds=seconds, spread_s=TOKENS * itl_ms / 1000, **how)
        return Measured(
            load=result,
            took_s=time.monotonic() - began_s,
            server_cpu_s=cpu_s(pid) - cpu_before_s,
            load_busy_s=busy_s(core) - busy_before_s,
        )


@contextmanager
def bare_server(place: Place, itl_ms: float) -> Iterator[Serving]:
    """Run the bare server.

    Raises:
        RouterFailedError: it did not start.
    """
    log = place.folder / f"bare-{itl_ms:g}.log"
    argv = [sys.executable, "-m", "loadtest.bench.bare_grpc", "--tokens", str(TOKENS), "--itl-ms", str(itl_ms)]
    started = start(argv, core=place.core, log=log, env=place.variables, cwd=Path(loadtest.__path__[0]).parent)
    try:
        deadline_s = time.monotonic() + BARE_READY_S
        while not (told := log.read_text(encoding="utf-8", errors="replace").strip()).isdigit():
            if started.has_ended or time.monotonic() > deadline_s:
                raise RouterFailedError(f"the bare server did not start:\n{started.log_tail()}")
            time.sleep(POLL_S)
        yield Serving(started=started, port=int(told))
    finally:
        started.end()


def _request(folder: Path) -> Path:
    """A serialized chat request of a few words."""
    message = chat_pb2.ChatMessage(role="user", content=f"{MARK} Say hi.")
    request = chat_pb2.ChatRequest(model=MODEL, messages=[message], max_completion_tokens=TOKENS)
    path = folder / "chat.bin"
    path.write_bytes(request.SerializeToString())
    return path
