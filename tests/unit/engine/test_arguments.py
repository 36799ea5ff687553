"""The plan in vLLM's words. That vLLM's own parser takes them: tests/contract/test_vllm_seams.py."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.engine.arguments import engine_environment, vllm_arguments
from cluster.engine.plan import ReplicaPlan
from cluster.engine.residency.sockets import EventSockets
from tests.unit.engine.plans import CUDA, GIB, machine, plan


def flags(made: ReplicaPlan) -> dict[str, list[str]]:
    """Values by flag; fails on a flag that is given twice."""
    found: dict[str, list[str]] = {}
    name = ""
    for part in vllm_arguments(made):
        if part.startswith("--"):
            name = part.removeprefix("--")
            assert name not in found
            found[name] = []
        else:
            found[name].append(part)
    return found


def with_extra(extra: dict[str, Any], made: ReplicaPlan | None = None) -> dict[str, list[str]]:
    return flags(dataclasses.replace(made or plan(), extra_args=extra))


def test_what_a_cpu_pool_asks_for() -> None:
    found = flags(plan("tensor_parallel: 2"))
    assert found["model"] == ["/models/tiny"]
    assert found["served-model-name"] == ["tiny"]
    assert found["max-model-len"] == ["32768"]
    assert found["tensor-parallel-size"] == ["2"]
    assert found["dtype"] == ["float32"]
    assert found["distributed-executor-backend"] == ["mp"]
    assert found["prefix-caching-hash-algo"] == ["sha256_cbor"]
    assert found["enforce-eager"] == []
    assert found["enable-auto-tool-choice"] == []
    assert found["tool-call-parser"] == ["hermes"]
    assert int(found["kv-cache-memory-bytes"][0]) > 0
    assert json.loads(found["override-generation-config"][0]) == {"temperature": 0.7, "top_k": 20}
    assert not {"quantization", "gpu-memory-utilization", "enable-lora", "lora-modules"} & found.keys()


def test_ranks_share_the_replicas_kv_cache() -> None:
    found = flags(plan("tensor_parallel: 2, engine: {kv_cache_gib: 4}"))
    assert found["kv-cache-memory-bytes"] == [str(2 * GIB)]


def test_what_a_gpu_pool_asks_for() -> None:
    found = flags(plan("engine: {quantization: fp8, gpu_memory_ratio: 0.8}", hardware=CUDA, tool_parser=None))
    assert found["gpu-memory-utilization"] == ["0.8"]
    assert found["quantization"] == ["fp8"]
    assert flags(plan(reasoning_parser="qwen3"))["reasoning-parser"] == ["qwen3"]
    absent = {
        "reasoning-parser",
        "kv-cache-memory-bytes",
        "enforce-eager",
        "enable-auto-tool-choice",
        "tool-call-parser",
    }
    assert not absent & found.keys()


def test_events_are_published_where_there_is_a_place() -> None:
    sockets = EventSockets(Path("/tmp/x"))
    arguments = vllm_arguments(plan(), sockets=sockets)
    config = json.loads(arguments[arguments.index("--kv-events-config") + 1])
    assert config == {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": "ipc:///tmp/x/events",
        "replay_endpoint": "ipc:///tmp/x/replay",
    }
    assert "kv-events-config" not in flags(plan())
    assert engine_environment(plan())["VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES"] == "0"


def test_adapters() -> None:
    found = flags(plan(model="{id: tiny, lora: [{name: sql, path: /a}, {name: poem, path: /b}]}"))
    assert found["enable-lora"] == []
    assert found["lora-modules"] == ["sql=/a", "poem=/b"]
    assert found["max-lora-rank"] == ["64"]


@pytest.mark.parametrize("name", ["max_num_seqs", "max-num-seqs"])
def test_extra_arguments_win(name: str) -> None:
    assert with_extra({name: 5})["max-num-seqs"] == ["5"]


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"seed": 7}, {"seed": ["7"]}),
        ({"enable_prefix_caching": False}, {"no-enable-prefix-caching": []}),
        ({"enable_prefix_caching": True}, {"enable-prefix-caching": []}),
        ({"kv_events_config": {"a": [1]}}, {"kv-events-config": ['{"a": [1]}']}),
        ({"logits_processors": ["m:A", "m:B"]}, {"logits-processors": ["m:A", "m:B"]}),
    ],
)
def test_forms_of_extra_arguments(extra: dict[str, Any], expected: dict[str, list[str]]) -> None:
    assert with_extra(extra).items() >= expected.items()


@pytest.mark.parametrize("value", [None, False])
def test_an_extra_argument_can_take_one_back(value: object) -> None:
    assert "enforce-eager" not in with_extra({"enforce_eager": value})


def test_the_environment_keeps_vllm_to_itself() -> None:
    env = engine_environment(plan("engine: {env: {HF_HUB_OFFLINE: '0', MINE: x}}"))
    assert env["VLLM_NO_USAGE_STATS"] == env["VLLM_DO_NOT_TRACK"] == "1"
    assert (env["HF_HUB_OFFLINE"], env["MINE"]) == ("0", "x")


@pytest.mark.parametrize(
    ("cores", "ranks", "binding"),
    [
        ((0, 1, 2, 3), 1, "0,1,2,3"),
        ((0, 1, 2, 3), 2, "0,1|2,3"),
        ((0, 1, 2, 3), 4, "0|1|2|3"),
        ((0, 1, 2), 2, "0|1,2"),
        ((5,), 2, "5|5"),
        ((4, 9), 4, "4|9|4|9"),
    ],
)
def test_thread_binding(cores: tuple[int, ...], ranks: int, binding: str) -> None:
    made = plan(f"tensor_parallel: {ranks}", hardware=machine(cores=cores))
    assert engine_environment(made)["VLLM_CPU_OMP_THREADS_BIND"] == binding


@pytest.mark.parametrize("made", [plan(hardware=CUDA), plan(hardware=machine(cores=()))])
def test_no_binding_where_there_is_nothing_to_bind(made: ReplicaPlan) -> None:
    assert "VLLM_CPU_OMP_THREADS_BIND" not in engine_environment(made)


@given(cores=st.lists(st.integers(0, 1023), min_size=1, max_size=64, unique=True), ranks=st.integers(1, 64))
def test_every_rank_has_a_core_and_every_core_a_rank(cores: list[int], ranks: int) -> None:
    made = plan(f"tensor_parallel: {ranks}", hardware=machine(cores=tuple(cores)))
    groups = [
        [int(core) for core in group.split(",")]
        for group in engine_environment(made)["VLLM_CPU_OMP_THREADS_BIND"].split("|")
    ]
    assert len(groups) == ranks
    assert all(groups)
    used = [core for group in groups for core in group]
    assert set(used) <= set(cores)
    if len(cores) >= ranks:
        assert sorted(used) == sorted(cores)
