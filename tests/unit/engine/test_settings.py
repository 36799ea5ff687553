"""What is chosen for an operator who said nothing, and that what they said wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.errors import SetupError
from cluster.engine.hardware import Hardware
from cluster.engine.plan import Accelerator
from cluster.engine.settings import (
    CPU_BATCH_TOKENS,
    CPU_KV_CONTEXTS,
    CPU_KV_MIN_BYTES,
    CPU_STALL_S,
    GPU_BATCH_TOKENS,
    GPU_STALL_S,
)
from cluster.models.card import Dtype, SamplingDefaults
from tests.unit.engine.plans import CUDA, GIB, card, machine, plan


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx2"}, "float32"), ({"avx512_bf16"}, "auto"), ({"amx_bf16", "avx2"}, "auto"), (set(), "float32")],
)
def test_dtype_follows_the_cpu(flags: set[str], expected: str) -> None:
    assert plan(hardware=machine(cpu_flags=frozenset(flags))).dtype == expected


def test_dtype_on_a_gpu_is_the_models_own() -> None:
    assert plan(hardware=CUDA).dtype == "auto"


@pytest.mark.parametrize("hardware", [machine(), CUDA])
@pytest.mark.parametrize("wanted", ["bfloat16", "float16", "float32"])
def test_a_named_dtype_wins(hardware: object, wanted: str) -> None:
    assert plan(f"engine: {{dtype: {wanted}}}", hardware=hardware).dtype == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(("flags", "number_bytes"), [({"avx2"}, 4), ({"amx_bf16"}, 2)])
def test_kv_cache_holds_a_context_and_a_quarter(flags: set[str], number_bytes: int) -> None:
    made = plan("context_tokens: 262144", hardware=machine(cpu_flags=frozenset(flags)))
    per_token = 2 * 24 * 2 * 64 * number_bytes
    assert made.kv_cache_bytes == int(262_144 * per_token * CPU_KV_CONTEXTS)


@pytest.mark.parametrize(("own", "used", "factor"), [(Dtype.FLOAT32, "bfloat16", 0.5), (Dtype.BFLOAT16, "float32", 2)])
def test_kv_cache_counts_in_the_type_that_is_used(own: Dtype, used: str, factor: float) -> None:
    made = plan(f"context_tokens: 4194304, engine: {{dtype: {used}}}", dtype=own, kv_bytes_per_token=1000)
    assert made.kv_cache_bytes == int(4_194_304 * 1000 * factor * CPU_KV_CONTEXTS)


def test_kv_cache_has_a_floor() -> None:
    assert plan("context_tokens: 16").kv_cache_bytes == CPU_KV_MIN_BYTES


def test_kv_cache_can_be_named() -> None:
    assert plan("engine: {kv_cache_gib: 0.5}").kv_cache_bytes == GIB // 2


def test_kv_cache_on_a_gpu_is_vllms_business() -> None:
    made = plan("engine: {gpu_memory_ratio: 0.5}", hardware=CUDA)
    assert (made.kv_cache_bytes, made.gpu_memory_ratio, made.cores) == (None, 0.5, ())


def test_cpu_is_the_operators_choice_beside_a_gpu() -> None:
    made = plan("accelerator: cpu", hardware=CUDA)
    assert (made.accelerator, made.eager, made.cores) == (Accelerator.CPU, True, (0, 1, 2, 3))
    assert (made.dtype, made.kv_cache_bytes) == ("float32", CPU_KV_MIN_BYTES)
    assert plan("accelerator: cuda", hardware=CUDA).accelerator is Accelerator.CUDA


def test_cuda_without_a_device_is_refused() -> None:
    with pytest.raises(SetupError, match="wants accelerator cuda, and no NVIDIA device is here"):
        plan("accelerator: cuda")


@pytest.mark.parametrize(("hardware", "expected"), [(machine(), CPU_BATCH_TOKENS), (CUDA, GPU_BATCH_TOKENS)])
def test_batch_tokens_by_accelerator(hardware: object, expected: int) -> None:
    assert plan(hardware=hardware).batch_tokens == expected  # type: ignore[arg-type]


def test_named_batch_tokens_win() -> None:
    assert plan("engine: {batch_tokens: 4096}").batch_tokens == 4096


def test_a_step_is_no_larger_than_the_context() -> None:
    assert plan("context_tokens: 512").batch_tokens == 512


@given(
    context=st.integers(16, 300_000),
    running=st.integers(1, 4096),
    batch=st.none() | st.integers(64, 100_000),
    on_cpu=st.booleans(),
)
def test_a_step_holds_every_running_sequence(context: int, running: int, batch: int | None, on_cpu: bool) -> None:
    """VLLM refuses to start with max_num_batched_tokens below max_num_seqs."""
    named = f", batch_tokens: {batch}" if batch is not None else ""
    made = plan(
        f"context_tokens: {context}, engine: {{max_running: {running}{named}}}", hardware=machine() if on_cpu else CUDA
    )
    assert running <= made.batch_tokens <= max(context, running)


@pytest.mark.parametrize(("hardware", "eager", "stall_s"), [(machine(), True, CPU_STALL_S), (CUDA, False, GPU_STALL_S)])
def test_defaults_by_accelerator(hardware: object, eager: bool, stall_s: float) -> None:
    made = plan(hardware=hardware)  # type: ignore[arg-type]
    assert (made.eager, made.stall_s) == (eager, stall_s)


@pytest.mark.parametrize(
    ("pool", "hardware", "is_fast"),
    [
        ("", machine(), True),
        ("", CUDA, False),
        ("engine: {fast_start: true}", CUDA, True),
        ("engine: {fast_start: off}", machine(), False),
        ("engine: {fast_start: true}, tensor_parallel: 2, hosts: 2", CUDA, False),
    ],
)
def test_engines_are_forked_on_cpus_unless_told(pool: str, hardware: Hardware, is_fast: bool) -> None:
    """On a GPU it never ran, so it has to be asked for; over hosts Ray starts the workers."""
    assert plan(pool, hardware=hardware).fast_start is is_fast


def test_what_the_operator_named_wins() -> None:
    made = plan(
        "tensor_parallel: 2, engine: {eager: false, stall_s: 7, drain_s: 8, max_running: 3, max_queued: 4,"
        " quantization: awq, env: {A: b}, extra_args: {seed: 1}}",
        cluster="{name: c1, replica_host: node}",
        state_url="redis://h/0",
    )
    assert (made.eager, made.stall_s, made.drain_s) == (False, 7, 8)
    assert (made.max_running, made.max_queued, made.max_requests) == (3, 4, 7)
    assert (made.quantization, made.env, made.extra_args) == ("awq", {"A": "b"}, {"seed": 1})
    assert (made.cluster, made.replica_host, made.state_url) == ("c1", "node", "redis://h/0")
    assert made.tensor_parallel == 2
    assert made.cores == (0, 1, 2, 3)


def test_sampling_of_the_configuration_goes_over_the_cards() -> None:
    made = plan(model="{id: tiny, sampling: {temperature: 0, min_p: 0.1}}")
    assert made.sampling == {"temperature": 0, "top_k": 20, "min_p": 0.1}
    assert plan(sampling=SamplingDefaults()).sampling == {}


@pytest.mark.parametrize(("model", "parser"), [("{id: tiny}", "hermes"), ("{id: tiny, tool_parser: mine}", "mine")])
def test_tool_parser(model: str, parser: str) -> None:
    assert plan(model=model).tool_parser == parser


def test_reasoning_parser_is_the_cards() -> None:
    assert plan(reasoning_parser="qwen3").reasoning_parser == "qwen3"
    assert plan().reasoning_parser is None


def test_adapters_and_the_one_name() -> None:
    made = plan(model="{id: tiny, aliases: [gpt], lora: [{name: sql, path: /a}]}")
    assert (made.model, made.lora) == ("tiny", (("sql", "/a"),))


def test_a_plan_can_be_pickled() -> None:
    import pickle

    made = plan("engine: {extra_args: {seed: 1}}")
    assert pickle.loads(pickle.dumps(made)) == made
    assert made.accelerator is Accelerator.CPU
    assert card().kv_bytes_per_token == 12_288
