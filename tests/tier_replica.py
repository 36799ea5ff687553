"""An engine in a process tree of its own, as a replica is: asked over a pipe, and killed with everything below it.

Every process comes from one fork server that has imported vLLM: an engine starts in seconds. Only a program of its own
may use this, never the test runner. What must not live here: what is asked, and what should come of it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import psutil

from cluster.config import parse_config
from cluster.core.tier.break_even import BreakEven
from cluster.core.tier.keys import block_key, tag_of
from cluster.engine.arguments import engine_environment
from cluster.engine.hardware import Hardware
from cluster.engine.plan import Accelerator, ReplicaPlan
from cluster.engine.settings import replica_plan
from cluster.engine.tier import asking
from cluster.shared_memory import remove_shared_memory, shared_memory_of
from tests.unit.engine.plans import card

PRELOAD = [
    "vllm.entrypoints.launchers.api_server.app_state",
    "vllm.entrypoints.launchers.app",
    "vllm.entrypoints.launchers.cli_args",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.executor.multiproc_executor",
    "vllm.model_executor.models.qwen3",
    "vllm.model_executor.model_loader",
    "cluster.engine.vllm_engine",
    "cluster.engine.tier.manager",
    "cluster.engine.tier.spec",
    "tests.tier_replica",
]
START_S = 200.0
ANSWER_S = 120.0
"""For everything asked in one go; a hang must show as one."""
FORCED_PREFILL_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request."""

    ids: list[int]
    salt: str | None = None
    output_tokens: int = 8
    adapter: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of it."""

    tokens: list[int]
    cached: int
    ttft_s: float
    ask_s: float
    """Of the tier's time, where requests come one after the other."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a replica is made of; pool keys as in the configuration, in YAML's flow style."""

    folder: str
    redis: str | None = None
    """Its address and how to log in, as under `redis:`; None for an engine without a tier."""
    engine: str = ""
    """Further keys of `engine:`."""
    tier: str = "host_gib: 0.02"
    context_tokens: int = 8192
    adapters: tuple[tuple[str, str], ...] = ()
    kv_blocks: int | None = None
    is_forced: bool = False
    """Whether to fetch whatever is there: the tiny model computes so fast that it would hardly ever pay. What pays has
    tests of its own (tests/integration/test_tier_costs.py)."""
    answer_wait_s: float | None = 2.0
    """How long a question may take at most and at least; None leaves it as it is. A busy machine must not turn into a
    late answer where lateness is not what is tested."""
    env: dict[str, str] = field(default_factory=dict)

    def plan(self) -> ReplicaPlan:
        """As a replica's constructor gets it."""
        tier = f"redis_tier: {{enabled: true, {self.tier}}}" if self.redis else "redis_tier: {enabled: false}"
        extra = "" if self.redis else ", extra_args: {enable_prefix_caching: false}"
        config = parse_config(
            f"models: [{{id: tiny}}]\nredis: {{{self.redis or ''}}}\npools: [{{name: short, model: tiny, "
            f"context_tokens: {self.context_tokens}, engine: {{dtype: float32, {self.engine}{tier}{extra}}}}}]\n"
        )
        cores = tuple(sorted(os.sched_getaffinity(0)))
        hardware = Hardware(accelerator=Accelerator.CPU, cores=cores, cpu_flags=frozenset(), memory_bytes=1 << 34)
        made = replica_plan(config, config.pools[0], card=card(), folder=self.folder, state_url=None, hardware=hardware)
        size = made.kv_cache_bytes if self.kv_blocks is None else self.kv_blocks * TINY_BLOCK_BYTES
        return dataclasses.replace(made, kv_cache_bytes=size, lora=self.adapters)


BLOCK_TOKENS = 128
TINY_BLOCK_BYTES = BLOCK_TOKENS * 1024
"""Of the tiny model in fp32: 2 layers, keys and values, 2 heads of 32 numbers."""


def use_fork_server(setup: Setup) -> None:
    """Start the fork server; its children have its environment."""
    os.environ.update(engine_environment(setup.plan()) | setup.env)
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)
    forkserver.ensure_running()


class Replica:
    """One replica, from this process's side."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._pipe, theirs = multiprocessing.get_context("forkserver").Pipe()
        self._process = multiprocessing.get_context("forkserver").Process(target=_serve, args=(theirs, setup))
        self._process.start()
        theirs.close()
        self._receive(START_S)

    def ask(self, *asks: Ask) -> list[Answer]:
        """All of them at once."""
        answers: list[Answer] = self._call("ask", list(asks))
        return answers

    def begin(self, *asks: Ask) -> None:
        """As `ask`, without waiting for the answers."""
        self._pipe.send(("ask", list(asks)))

    def end(self, within_s: float = ANSWER_S) -> list[Answer]:
        """The answers to what `begin` asked."""
        answers: list[Answer] = self._receive(within_s)
        return answers

    def has_answered(self, within_s: float) -> bool:
        """Whether what was begun ends in this time."""
        return self._pipe.poll(within_s)

    def reset(self) -> bool:
        """Empty the engine's cache and the host's tier."""
        return bool(self._call("reset", None))

    def counts(self) -> dict[str, float]:
        """The tier's counters since the replica started."""
        made: dict[str, float] = self._call("counts", None)
        return made

    def keys(self, ask: Ask) -> list[bytes]:
        """What the prompt's blocks are called in Redis."""
        made: list[bytes] = self._call("keys", ask)
        return made

    def processes(self) -> list[psutil.Process]:
        """API process, engine core, worker: whatever the fork server has made that lives."""
        server = psutil.Process(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
        return [each for each in server.children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE]

    def core(self) -> psutil.Process:
        """The engine core."""
        (found,) = [each for each in self.processes() if "EngineCore" in " ".join(each.cmdline())]
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Without this a program that failed would wait for its replicas for ever.
        if self._process.is_alive():
            if kind is None:
                self.close()
            else:
                remove_shared_memory(self.kill())

    def kill(self) -> set[Path]:
        """As the kernel does when memory runs out; returns what stays behind in /dev/shm."""
        tree = self.processes()
        left = shared_memory_of(tree)
        for each in tree:
            each.send_signal(signal.SIGKILL)
        psutil.wait_procs(tree, timeout=20)
        self._process.join()
        self._pipe.close()
        return {path for path in left if path.exists()}

    def close(self) -> None:
        """In order."""
        try:
            self._call("close", None)
            self._process.join(30)
        finally:
            if self._process.is_alive():
                remove_shared_memory(self.kill())

    def _call(self, name: str, argument: Any) -> Any:
        self._pipe.send((name, argument))
        return self._receive(ANSWER_S)

    def _receive(self, within_s: float) -> Any:
        if not self._pipe.poll(within_s):
            raise TimeoutError(f"the replica said nothing for {within_s:.0f} s")
        answer = self._pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _serve(pipe: Connection, setup: Setup) -> None:
    """In the replica's process."""
    # Its children come from the same fork server, which this process must not start anew.
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[attr-defined]
    context = multiprocessing.get_context("forkserver")
    import sys

    import vllm.utils.system_utils as system

    system._maybe_force_spawn = lambda: None
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("vllm") and hasattr(module, "get_mp_context"):
            module.get_mp_context = lambda: context  # type: ignore[attr-defined]
    if setup.answer_wait_s is not None:
        asking.ANSWER_WAIT_MIN_S = asking.ANSWER_WAIT_MAX_S = setup.answer_wait_s
    if setup.is_forced:
        _force()
    asyncio.run(_loop(pipe, setup))


def _force() -> None:
    def may_ask(*_: Any, **__: Any) -> bool:
        return True

    def min_fetch_tokens(*_: Any, **__: Any) -> int:
        return 1

    def prefill_s(*_: Any) -> float:
        return FORCED_PREFILL_S

    BreakEven.may_ask = may_ask  # type: ignore[method-assign]
    BreakEven.min_fetch_tokens = min_fetch_tokens  # type: ignore[method-assign]
    BreakEven.prefill_s = prefill_s  # type: ignore[method-assign]


async def _loop(pipe: Connection, setup: Setup) -> None:
    from cluster.engine.vllm_engine import start_engine

    try:
        plan = setup.plan()
        engine = await start_engine(plan)
    except Exception as error:  # noqa: BLE001 - the other side raises it
        pipe.send(RuntimeError(repr(error)))
        return
    pipe.send("started")
    made = _Made(engine, dict(setup.adapters))
    while True:
        name, argument = await asyncio.to_thread(pipe.recv)
        if name == "close":
            engine.shutdown()
            pipe.send(None)
            return
        try:
            pipe.send(await getattr(made, name)(argument))
        except Exception as error:  # noqa: BLE001 - the other side raises it
            pipe.send(RuntimeError(repr(error)))


class _Made:
    """What the replica does when told."""

    def __init__(self, engine: Any, adapters: dict[str, str]) -> None:
        self._engine = engine
        self._adapters = adapters
        self._asked = 0

    async def ask(self, asks: list[Ask]) -> list[Answer]:
        return list(await asyncio.gather(*(self._one(ask) for ask in asks)))

    async def reset(self, _: None) -> bool:
        return bool(await self._engine._engine.reset_prefix_cache(reset_connector=True))

    async def counts(self, _: None) -> dict[str, float]:
        tier = self._engine._tier
        counted = {name: float(value) for name, value in dataclasses.asdict(tier.asking.counts).items()}
        state = {f"break_even_{k}": v for k, v in dataclasses.asdict(tier.asking.break_even.state()).items()}
        return counted | tier.totals | state | {"payload_bytes": float(tier.asking._facts.payload_bytes)}

    async def keys(self, ask: Ask) -> list[bytes]:
        from cluster.engine.tier.link import PromptHashes

        tier = self._engine._tier
        assert ask.adapter is None, "its name is part of the hash, and its digest of the salt"
        hashes = PromptHashes(tier._hasher, tier._block_tokens, ask.ids, ask.salt, None).upto(10**6)
        return [block_key(tier.asking._facts.fingerprint, tag_of(ask.salt), each + bytes(4)) for each in hashes]

    async def _one(self, ask: Ask) -> Answer:
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.lora.request import LoRARequest

        self._asked += 1
        params = SamplingParams(max_tokens=ask.output_tokens, temperature=0.0, ignore_eos=True)
        lora = None
        if ask.adapter is not None:
            number = 1 + list(self._adapters).index(ask.adapter)
            lora = LoRARequest(ask.adapter, number, self._adapters[ask.adapter])
        counts = self._engine._tier.asking.counts if self._engine._tier else asking.AskCounts()
        spent_s, began_s = counts.ask_s, time.monotonic()
        first_s, cached, out = 0.0, None, None
        source = tokens_input(list(ask.ids), cache_salt=ask.salt)
        async for out in self._engine._engine.generate(source, params, f"r{self._asked}", lora_request=lora):
            if cached is None:
                first_s, cached = time.monotonic() - began_s, out.num_cached_tokens
        assert out is not None
        return Answer(
            tokens=list(out.outputs[0].token_ids), cached=cached or 0, ttft_s=first_s, ask_s=counts.ask_s - spent_s
        )
