"""What the warm parent takes from the pinned vLLM: where processes are started, and what an import leaves behind.

vLLM is imported, never started. A failure here after a new pin means: look at cluster/engine/warm.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.engine.plan import Accelerator
from cluster.engine.warm import seam
from cluster.engine.warm.context import WarmContext
from cluster.engine.warm.environment import parent_environment
from cluster.engine.warm.handle import WarmParent, start_parent
from cluster.models.tiny import write_small_files
from tests import warm_processes
from tests.contract.test_vllm_seams import vllm_version

PRELOAD = "cluster.engine.warm.seam:preload"
ARCHITECTURE = "Qwen3ForCausalLM"
NEEDED = (
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.model_executor.models.qwen3",
)


@pytest.fixture(scope="module", autouse=True)
def _vllm() -> None:
    vllm_version()


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    """The real one, its imports included."""
    # Unbound, or it would see one core and have one thread for that reason alone.
    environment = parent_environment(os.environ, Accelerator.CUDA)
    made = start_parent(environment, preload=PRELOAD, arguments=[Accelerator.CPU, ARCHITECTURE])
    yield made
    made.close()


def test_a_parent_that_imported_vllm_forks(parent: WarmParent) -> None:
    """It would have refused with a second thread or with CUDA initialised; then the process would be spawned."""
    context = WarmContext(parent.asking)
    here, there = context.Pipe()
    process = context.Process(target=warm_processes.tell, args=(there, NEEDED))
    process.start()
    told: dict[str, Any] = here.recv()
    process.join()
    assert told["ppid"] == parent.pid
    assert told["imported"] == list(NEEDED), "each of them would be imported again in every process"


@pytest.mark.parametrize(
    ("starter", "module"),
    [("CoreEngineProcManager", "vllm.v1.engine.utils"), ("WorkerProc", "vllm.v1.executor.multiproc_executor")],
)
def test_processes_are_started_where_the_seam_is(starter: str, module: str) -> None:
    assert module in seam.TAKERS
    source = inspect.getsource(getattr(importlib.import_module(module), starter))
    assert f"context = {seam.TAKEN}()" in source
    assert "context.Process(" in source


def test_the_seam_takes_and_the_context_passes_for_spawn(monkeypatch: pytest.MonkeyPatch, parent: WarmParent) -> None:
    """Only for `fork` does vLLM have its children close what they inherited, which ours do not inherit."""
    for name in seam.TAKERS:
        module = importlib.import_module(name)
        monkeypatch.setattr(module, seam.TAKEN, getattr(module, seam.TAKEN))
    warm = seam.install(parent.asking)
    assert warm is not None
    modules = [sys.modules[name] for name in seam.TAKERS]
    assert [getattr(module, seam.TAKEN)() for module in modules] == [warm, warm]
    assert warm.get_start_method() == "spawn"


def test_a_models_module_is_in_vllms_table() -> None:
    table = importlib.import_module(seam.MODELS)._VLLM_MODELS
    assert table[ARCHITECTURE][0] == "qwen3"


def test_vllm_wants_nothing_of_its_processes_that_a_fork_cannot_change(parent: WarmParent, tmp_path: Path) -> None:
    """Its CPU platform sets variables for EngineCore, and more for a worker; the warm parent began with the same.

    In a process of its own, whose environment it then changes.
    """
    write_small_files(tmp_path)
    context = WarmContext(parent.asking)
    here, there = context.Pipe()
    process = context.Process(target=warm_processes.configure_an_engine, args=(there, str(tmp_path)))
    process.start()
    told: dict[str, Any] = here.recv()
    process.join()
    assert told["affinity"] == "0", "it has asked for a binding"
    assert (told["core"], told["worker"]) == ([], [])
