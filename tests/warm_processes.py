"""What the tests of the warm parent let its children do; importable, because multiprocessing pickles by name.

What must not live here: tests.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing import resource_tracker, shared_memory
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cluster.engine.warm.context import Asking, WarmContext

LOADED: list[str] = []
"""What `preload` was given, in the warm parent and whoever was forked from it."""
ADOPTED: list[WarmContext] = []


def preload(*words: str) -> None:
    LOADED.extend(words)


def fail() -> None:
    raise RuntimeError("an import failed")


def start_a_thread() -> None:
    import threading

    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()


def adopt(asking: Asking) -> None:
    ADOPTED.append(WarmContext(asking))


def tell(said: Connection, modules: Sequence[str] = ()) -> None:
    """All that a process may be asked about itself; which of `modules` it has without importing them, too."""
    parent = multiprocessing.parent_process()
    said.send(
        {
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "loaded": list(LOADED),
            "environment": dict(os.environ),
            "cores": os.sched_getaffinity(0),
            "name": multiprocessing.current_process().name,
            "parent": parent.pid if parent is not None else None,
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "imported": [name for name in modules if name in sys.modules],
            "main": getattr(sys.modules["__main__"], "__file__", None),
        }
    )


def configure_an_engine(said: Connection, folder: str) -> None:
    """Let vLLM settle a configuration on a CPU; what it then wants otherwise than a warm parent would have it."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.utils.ompmultiprocessing import OMPProcessManager

    from cluster.engine.plan import Accelerator
    from cluster.engine.warm.environment import AFFINITY_VARIABLE, BINDING_VARIABLE, parent_environment, unchangeable

    os.environ[BINDING_VARIABLE] = "0"
    settled = parent_environment(os.environ, Accelerator.CPU)
    arguments = AsyncEngineArgs(model=folder, max_model_len=1024, distributed_executor_backend="mp")
    config = arguments.create_engine_config()
    core = unchangeable(os.environ, settled)
    with OMPProcessManager(config).configure_omp_envs(rank=0, local_rank=0):
        worker = unchangeable(os.environ, settled)
        said.send({"core": core, "worker": worker, "affinity": os.environ.get(AFFINITY_VARIABLE)})


def exit_with(code: int) -> None:
    sys.exit(code)


def raise_an_error() -> None:
    raise RuntimeError("as told")


def wait_for_ever(said: Connection) -> None:
    said.send(os.getpid())
    signal.pause()


def have_a_child(said: Connection) -> None:
    """As EngineCore has its worker: from the warm parent as well, told of through the same pipe."""
    (own,) = ADOPTED
    child = own.Process(target=wait_for_ever, args=(said,), daemon=True)
    child.start()
    said.send(os.getpid())
    signal.pause()


def hold(lock: Any, queue: Any) -> None:
    with lock:
        queue.put(os.getpid())


def share_memory(said: Connection) -> None:
    """As vLLM's processes do: a segment that only a process which ends in order removes."""
    memory = shared_memory.SharedMemory(create=True, size=4096)
    resource_tracker.unregister(f"/{memory.name}", "shared_memory")
    said.send(memory.name)
    said.send(os.getpid())
    signal.pause()


def replica(preload_name: str, target: str = "have_a_child") -> None:
    """A process that has a warm parent and two children of it, and waits to be killed."""
    from cluster.engine import orphans
    from cluster.engine.warm.handle import start_parent

    orphans.mark_own_engine("tests@warm")
    parent = start_parent(os.environ, preload=preload_name, adopt=adopt)
    context = WarmContext(parent.asking)
    here, there = context.Pipe()
    core = context.Process(target=globals()[target], args=(there,))
    core.start()
    sys.stdout.write(f"{parent.pid} {here.recv()} {here.recv()}\n")
    sys.stdout.flush()
    signal.pause()
