"""The whole comparison: our gateway and its peers, in turn, several times over, in front of the same engines.

What must not live here: what is measured (measure.py, memory.py), the command line.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from loadtest.bench import native
from loadtest.bench.bodies import KINDS, Bodies
from loadtest.bench.collector import NOBODY, collecting
from loadtest.bench.engines import Engines, kept_leases, running_engines, running_state
from loadtest.bench.load import LoadClient, LoadFailedError
from loadtest.bench.machine import Cores, pinned
from loadtest.bench.measure import Measurement, Plan, Sample
from loadtest.bench.memory import MemoryMeasurement
from loadtest.bench.peers import Missing, find_peer
from loadtest.bench.results import Row, noise, row_of
from loadtest.bench.routers import Longreach, Place, Router, RouterFailedError, serving

OURS = "longreach"
OURS_STATIC = "longreach-static"
MEMORY_STEPS = 2


class Watcher:
    """Told how far a bench is; this one ignores it."""

    def begins(self, steps: int) -> None:
        """There will be this many steps."""

    def step(self, router: str, what: str) -> None:
        """One step is done."""

    def says(self, line: str) -> None:
        """Something that takes long begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run found."""

    rows: tuple[Row, ...]
    noise: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayBench:
    """One comparison, ready to run."""

    plan: Plan
    cores: Cores
    cache: Path
    """Compiled programs and peers' environments are kept here."""
    tokenizer: Path
    variables: Mapping[str, str]
    peer_names: Sequence[str]
    with_memory: bool
    with_traces: bool
    """The gateway with tracing, in several ways, instead of static endpoints."""
    watcher: Watcher

    def run(self) -> Outcome:
        """Measure everything; a peer that fails gets a row that says so.

        Raises:
            SetupError: this machine cannot run the bench.
            RouterFailedError: our own gateway does not serve.
            LoadFailedError: the load client failed in front of our own gateway.
        """
        programs = native.build(self.cache)
        with ExitStack() as stack:
            routers, missing = self._routers(stack)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="longreach-bench-")))
            # This process renews leases and draws: it must not take time from the router.
            stack.enter_context(pinned(self.cores.load))
            engines = stack.enter_context(running_engines(programs.engine, core=self.cores.load))
            state_url = stack.enter_context(running_state(folder / "state", core=self.cores.load))
            stack.enter_context(kept_leases(state_url, engines))
            api_key = f"lr-{secrets.token_urlsafe(24)}"
            rooms = _Rooms(
                folder=folder, core=self.cores.router, engines=engines, state_url=state_url, api_key=api_key,
                variables=self.variables,
            )  # fmt: skip
            load = LoadClient(program=programs.load, core=self.cores.load, api_key=api_key)
            return self._measure(routers, missing, rooms, load, engines)

    def _routers(self, stack: ExitStack) -> tuple[list[Router], list[Missing]]:
        routers: list[Router] = [Longreach(name=OURS, is_static=False, tokenizer=self.tokenizer)]
        if self.with_traces:
            routers += self._traced(stack)
        else:
            routers.append(Longreach(name=OURS_STATIC, is_static=True, tokenizer=self.tokenizer))
        missing: list[Missing] = []
        for name in dict.fromkeys(self.peer_names):
            found = find_peer(name, cache=self.cache, variables=self.variables, say=self.watcher.says)
            if isinstance(found, Missing):
                missing.append(found)
            else:
                routers.append(found)
        return routers, missing

    def _traced(self, stack: ExitStack) -> list[Router]:
        with pinned(self.cores.load):
            taken = stack.enter_context(collecting(answers=True))
            slow = stack.enter_context(collecting(answers=False))
        ways = {"10%": (taken, 0.1), "100%": (taken, 1.0), "100% slow": (slow, 1.0), "100% gone": (NOBODY, 1.0)}
        return [
            Longreach(
                name=f"{OURS} traces {way}",
                is_static=False,
                tokenizer=self.tokenizer,
                traces={"endpoint": endpoint, "sampling_ratio": ratio},
            )
            for way, (endpoint, ratio) in ways.items()
        ]

    def _measure(
        self, routers: Sequence[Router], missing: Sequence[Missing], rooms: _Rooms, load: LoadClient, engines: Engines
    ) -> Outcome:
        from tokenizers import Tokenizer

        bodies = Bodies(rooms.folder)
        tokenizer = Tokenizer.from_file(str(self.tokenizer / "tokenizer.json"))
        self.watcher.says("writing long prompts")
        prompts = [bodies.long(kind, self.plan.long_tokens, tokenizer) for kind in KINDS]
        table = _Table(routers)

        def measurement(name: str) -> Measurement:
            return Measurement(
                plan=self.plan, load=load, engines=engines, bodies=bodies, long_prompts=prompts,
                on_step=lambda what: self.watcher.step(name, what),
            )  # fmt: skip

        memory_routers = [router for router in routers if self.with_memory and router.name != OURS_STATIC]
        steps = self.plan.repeats * len(routers) * measurement("").steps + MEMORY_STEPS * len(memory_routers)
        self.watcher.begins(steps)
        for _ in range(self.plan.repeats):
            for router in routers:
                probe = bodies.short(max_tokens=1, stream=False)
                with table.noting(router), serving(router, rooms.new(router.name), probe) as running:
                    table.add(router, measurement(router.name).run(running))
        memory = MemoryMeasurement(plan=self.plan, load=load, engines=engines, bodies=bodies)
        for router in memory_routers:
            for slow in (False, True):
                probe = bodies.short(max_tokens=1, stream=False)
                with table.noting(router), serving(router, rooms.new(router.name), probe) as running:
                    table.add_memory(router, memory.run(running, slow=slow))
                self.watcher.step(router.name, "memory")
        rows = [*table.rows(), *(Row(name=absent.name, why=absent.why) for absent in missing)]
        return Outcome(rows=tuple(rows), noise=noise(table.all_samples()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rooms:
    """Gives each start of a router a folder of its own."""

    folder: Path
    core: int
    engines: Engines
    state_url: str
    api_key: str
    variables: Mapping[str, str]

    def new(self, name: str) -> Place:
        return Place(
            folder=Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder)),
            core=self.core,
            engine_urls=self.engines.urls,
            state_url=self.state_url,
            api_key=self.api_key,
            variables=self.variables,
        )


class _Noting(AbstractContextManager[None]):
    """Turns a peer's failure into a remark on its row; our own failures stay faults."""

    def __init__(self, router: Router, note: Callable[[str], None]) -> None:
        self._router = router
        self._note = note

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        is_expected = isinstance(error, (RouterFailedError, LoadFailedError, OSError))
        if not is_expected or isinstance(self._router, Longreach):
            return False
        self._note(str(error))
        return True


class _Table:
    """Samples by router, as they come in."""

    def __init__(self, routers: Sequence[Router]) -> None:
        self._samples: dict[str, list[Sample]] = {router.name: [] for router in routers}
        self._memory: dict[str, list[Sample]] = {router.name: [] for router in routers}
        self._why: dict[str, str] = {}

    def noting(self, router: Router) -> _Noting:
        return _Noting(router, lambda why: self._why.__setitem__(router.name, why))

    def add(self, router: Router, sample: Sample) -> None:
        self._samples[router.name].append(sample)

    def add_memory(self, router: Router, sample: Sample) -> None:
        self._memory[router.name].append(sample)

    def all_samples(self) -> list[Sample]:
        return [sample for samples in self._samples.values() for sample in samples]

    def rows(self) -> list[Row]:
        rows = []
        for name, samples in self._samples.items():
            row = row_of(name, [*samples, *self._memory[name]], why=self._why.get(name))
            rows.append(row)
        return rows
