"""Where vLLM takes its processes from, and what they import: private seams of the pinned vLLM.

tests/contract holds a test for each. Where one is missing vLLM goes on by itself, and spawns. What must not live here:
processes.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.engine.plan import Accelerator, ReplicaPlan
from cluster.engine.warm.context import Asking, WarmContext
from cluster.engine.warm.environment import parent_environment
from cluster.engine.warm.handle import WarmParent, start_parent

log = logging.getLogger("longreach.engine")
TAKERS = ("vllm.v1.engine.utils", "vllm.v1.executor.multiproc_executor")
"""They start EngineCore and the workers, with the context that this name of theirs gives."""
TAKEN = "get_mp_context"
IMPORTED = ("vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor")
WORKERS = {Accelerator.CPU: "vllm.v1.worker.cpu_worker", Accelerator.CUDA: "vllm.v1.worker.gpu_worker"}
MODELS = "vllm.model_executor.models.registry"


def start_warm_parent(plan: ReplicaPlan, environment: Mapping[str, str]) -> WarmParent | None:
    """The warm parent of a replica, its imports just begun; None where the plan wants none, or it cannot be started.

    Args:
        plan: of the replica.
        environment: the replica's own, complete and marked.
    """
    if not plan.fast_start:
        return None
    try:
        return start_parent(
            parent_environment(environment, plan.accelerator),
            preload=f"{__name__}:preload",
            arguments=[plan.accelerator, *_architectures(Path(plan.folder))],
            adopt=adopt,
        )
    except OSError as error:
        log.warning("no warm parent, so the engine starts slower: %s", error)
        return None


def preload(accelerator: str, *architectures: str) -> None:
    """Import what the engine's processes would, in the warm parent.

    Raises:
        RuntimeError: an import has initialised CUDA, which no fork survives.
    """
    for name in (*IMPORTED, WORKERS[Accelerator(accelerator)]):
        importlib.import_module(name)
    for architecture in architectures:
        _import_model(architecture)
    import torch

    if torch.cuda.is_initialized():
        raise RuntimeError("importing vLLM has initialised CUDA")


def install(asking: Asking) -> WarmContext | None:
    """Give vLLM's process starters in this process the warm parent's context; None where the seam is missing."""
    warm = WarmContext(asking)
    modules = [importlib.import_module(name) for name in TAKERS]
    missing = [module.__name__ for module in modules if not callable(getattr(module, TAKEN, None))]
    if missing:
        log.warning("vLLM has no %s in %s any more, so its processes are spawned", TAKEN, ", ".join(missing))
        return None
    for module in modules:
        setattr(module, TAKEN, _giving(warm, getattr(module, TAKEN)))
    return warm


def _giving(warm: WarmContext, own: Any) -> Any:
    def get_mp_context() -> WarmContext:
        # For what it puts into the environment; which it does for every process, so this may be called as often.
        own()
        return warm

    return get_mp_context


def adopt(asking: Asking) -> None:
    """`install`, in a forked process."""
    install(asking)


def _import_model(architecture: str) -> None:
    """Its module, by vLLM's own table; a model that is not in it is imported by who needs it."""
    table: dict[str, tuple[str, str]] = getattr(importlib.import_module(MODELS), "_VLLM_MODELS", {})
    if architecture in table:
        importlib.import_module(f"vllm.model_executor.models.{table[architecture][0]}")


def _architectures(folder: Path) -> list[str]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures")
    except (OSError, ValueError, AttributeError):
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
