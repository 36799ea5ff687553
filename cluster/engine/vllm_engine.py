"""The engine: vLLM's AsyncLLM, checked and counted (checked.py), and vLLM's own application around it.

What it uses are private seams of a pinned vLLM; tests/contract holds one test for each. What must not live here: Ray,
Redis.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from cluster.core.autoscaling.work import WorkMeter
from cluster.core.start import StartStage
from cluster.engine.arguments import vllm_arguments
from cluster.engine.asgi import App
from cluster.engine.checked import checked_engine, prefill_tokens
from cluster.engine.plan import ReplicaPlan
from cluster.engine.rehearsal import rehearse
from cluster.engine.residency.seen import SeenPrompts
from cluster.engine.residency.sockets import EventSockets
from cluster.engine.resume.drawing import derive_ids
from cluster.engine.resume.engine import add_processor
from cluster.engine.start_clock import StartClock
from cluster.engine.tier.link import TierLink
from cluster.engine.warm.handle import WarmParent
from cluster.engine.warm.seam import install

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 300.0
"""One token from a fresh engine: compilation and first touch of the weights included."""


@dataclass(slots=True)
class Load:
    """What the engine's scheduler last said of itself."""

    running: int = 0
    waiting: int = 0
    kv_use_ratio: float = 0.0


class VllmEngine:
    """A started engine: its application, its load, its ping."""

    def __init__(
        self,
        *,
        engine: Any,
        app: App,
        load: Load,
        meter: WorkMeter,
        tier: TierLink | None = None,
        parent: WarmParent | None = None,
    ) -> None:
        self._engine = engine
        self._tier = tier
        self._parent = parent
        self.app = app
        self.load = load
        self.meter = meter

    @property
    def is_dead(self) -> bool:
        """Whether vLLM itself found its engine core gone."""
        return bool(self._engine.errored)

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens of requests that have no first token yet.

        vLLM tells what of a prompt was cached with its first token, so these are whole prompts. Choices of one request
        share their prompt, which counts once.
        """
        return prefill_tokens(self._engine.output_processor)

    @property
    def tier_terms(self) -> dict[str, Any] | None:
        """For the lease: what it fetches from Redis; None while it does not."""
        terms = self._tier.terms if self._tier is not None else None
        return terms.to_dict() if terms is not None else None

    @property
    def tier(self) -> TierLink | None:
        """Its KV tier; None where it has none."""
        return self._tier

    async def ping(self) -> object:
        """Return when the engine core has answered between two steps.

        Raises:
            EngineDeadError: vLLM's own, when the core is gone.
        """
        return await self._engine.is_paused()

    async def probe(self) -> None:
        """Make one token, which proves that the whole path from scheduler to sampler works; then rehearse the rest.

        Raises:
            TimeoutError: the token took longer than `PROBE_TIMEOUT_S`.
        """
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True)
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            async for _ in self._engine.generate({"prompt_token_ids": [0]}, params, "longreach-probe"):
                pass
        for name, why in (await rehearse(self._engine)).items():
            # Requests that want the same will be told so; the others are served.
            log.warning("rehearsal of %s: %s", name, why)

    async def kv_groups(self) -> list[dict[str, Any]]:
        """The groups of its KV cache: `kind` and `block_size` of each."""
        groups: list[dict[str, Any]] = await self._engine.engine_core.call_utility_async("get_kv_cache_group_metadata")
        return groups

    def shutdown(self) -> None:
        """Stop the engine's processes."""
        self._engine.shutdown()
        if self._parent is not None:
            self._parent.close()
        if self._tier is not None:
            self._tier.close()


async def start_engine(
    plan: ReplicaPlan,
    *,
    sockets: EventSockets | None = None,
    prompts: SeenPrompts | None = None,
    parent: WarmParent | None = None,
    clock: StartClock | None = None,
) -> VllmEngine:
    """Start vLLM by `plan`; blocks the loop while it loads, which is all this process has to do until then.

    Args:
        plan: what it is to be.
        sockets: where it tells what becomes of its KV cache.
        prompts: where every prompt that was made of text is noted.
        parent: forks the engine's processes; None: vLLM spawns them. It ends with the engine.
        clock: is told of the stages.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    tier = TierLink(plan) if plan.redis_tier is not None else None
    kv_transfer = await tier.prepare() if tier is not None else None
    args = parser.parse_args(vllm_arguments(plan, sockets=sockets, kv_transfer=kv_transfer))
    validate_parsed_serve_args(args)
    load, meter = Load(), WorkMeter()
    clock = clock or StartClock(age_s=0.0)
    warm = install(parent.asking) if parent is not None else None
    engine_args = AsyncEngineArgs.from_cli_args(args)
    config = engine_args.create_engine_config(UsageContext.OPENAI_API_SERVER)
    add_processor(config)
    engine = checked_engine(prompts, tier, meter).from_vllm_config(
        config,
        usage_context=UsageContext.OPENAI_API_SERVER,
        stat_loggers=[_load_recorder(load, meter, tier)],
        enable_log_requests=engine_args.enable_log_requests,
        disable_log_stats=engine_args.disable_log_stats,
    )
    meter.uncomputed_tokens = partial(prefill_tokens, engine.output_processor)
    meter.kv_tokens = engine.vllm_config.cache_config.kv_cache_size_tokens or 0
    if tier is not None:
        await tier.connect()
    if warm is not None and warm.waited_s is not None:
        clock.took(StartStage.PARENT, warm.waited_s)
    clock.ends(StartStage.ENGINE)
    tasks = await engine.get_supported_tasks()
    app = build_app(args, tasks, engine.model_config)
    await init_app_state(engine, app.state, args, tasks)
    derive_ids()
    # vLLM's handler of engine errors asks its own server to exit; here the replica decides that.
    app.state.server = SimpleNamespace(should_exit=False)
    clock.ends(StartStage.APP)
    return VllmEngine(engine=engine, app=app, load=load, meter=meter, tier=tier, parent=parent)


def _load_recorder(load: Load, meter: WorkMeter, tier: TierLink | None = None) -> Any:
    from vllm.v1.metrics.loggers import StatLoggerBase

    class LoadRecorder(StatLoggerBase):  # type: ignore[misc]
        """Keeps the scheduler's last statistics for the lease."""

        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            del vllm_config, engine_index

        def record(self, scheduler_stats: Any, iteration_stats: Any = None, *_: Any, **__: Any) -> None:
            if scheduler_stats is not None:
                _measure(meter, scheduler_stats.num_running_reqs, iteration_stats)
                load.running = scheduler_stats.num_running_reqs
                load.waiting = scheduler_stats.num_waiting_reqs
                load.kv_use_ratio = scheduler_stats.kv_cache_usage
                if tier is not None:
                    tier.observe(scheduler_stats)

        def log_engine_initialized(self) -> None:
            pass

    return LoadRecorder


def _measure(meter: WorkMeter, running: int, iteration_stats: Any) -> None:
    """Tell of a step: a sequence in the batch that got no token is one whose prompt is not computed to its end."""
    tokens, first_tokens, computed, prompts = 0, 0, 0, 0
    if iteration_stats is not None:
        tokens = iteration_stats.num_generation_tokens
        first_tokens = len(iteration_stats.time_to_first_tokens_iter)
        computed = iteration_stats.prompt_token_stats.computed
        prompts = iteration_stats.prompt_token_stats.total
    meter.stepped(
        time.monotonic(),
        prefilling=first_tokens + max(running - tokens, 0),
        decoding=max(tokens - first_tokens, 0),
        computed_tokens=computed,
        prompt_tokens=prompts,
    )
