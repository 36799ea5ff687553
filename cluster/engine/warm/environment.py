"""The environment of a warm parent, and what of it a forked process cannot have otherwise.

Most variables are read when they are needed, so a forked process simply gets its own. Those that the loader, OpenMP or
an import have read are settled when the parent starts: it is given them as vLLM would give them to its worker, and a
process that needs others is spawned. What must not live here: processes, vLLM.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from cluster.engine.plan import Accelerator

BINDING_VARIABLE = "VLLM_CPU_OMP_THREADS_BIND"
AFFINITY_VARIABLE = "GOMP_CPU_AFFINITY"
THREADS_VARIABLE = "OMP_NUM_THREADS"
SETTLED_PREFIXES = (
    "LD_PRELOAD", "MALLOC_", "TCMALLOC_", "GOMP_", "KMP_", "OMP_PLACES", "OMP_PROC_BIND",
    "TORCHINDUCTOR_COMPILE_", "TORCHINDUCTOR_CPP_",
)  # fmt: skip
"""Read by the loader, the allocator, libgomp (its manual, Environment Variables) or torch._inductor.config before a
fork. The number of OpenMP's threads is not among them: a process can change it while it runs. Nor is LD_LIBRARY_PATH:
imports extend it, in the parent as in the replica, for what they have loaded."""
COMPATIBILITY_VARIABLE = "VLLM_ENABLE_CUDA_COMPATIBILITY"
"""What vLLM does by it (env_override.py) is to extend LD_LIBRARY_PATH for the processes that it starts."""
ONE_RANK = re.compile(r"\d+(,\d+)*")
"""As cluster/engine/arguments.py writes the cores of a single rank."""


def parent_environment(base: Mapping[str, str], accelerator: Accelerator) -> dict[str, str]:
    """`base` with what vLLM's CPU platform adds for its worker (platforms/cpu.py, utils/ompmultiprocessing.py)."""
    # OpenBLAS, which NumPy and SciPy bring along, starts threads when it is loaded; an engine computes with torch.
    made = {"OPENBLAS_NUM_THREADS": "1"} | dict(base)
    if accelerator is not Accelerator.CPU:
        return made
    made |= {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_CPP_DYNAMIC_THREADS": "1"}
    preloaded = _preloaded(base.get("LD_PRELOAD", ""))
    if preloaded:
        made["LD_PRELOAD"] = preloaded
    binding = base.get(BINDING_VARIABLE, "")
    # Ranks have cores of their own, which only one of them could inherit; the others would be spawned all the same.
    if ONE_RANK.fullmatch(binding) and "libgomp" in preloaded:
        cores = binding.split(",")
        made |= {THREADS_VARIABLE: str(len(cores)), AFFINITY_VARIABLE: " ".join(cores)}
    return made


def unchangeable(wanted: Mapping[str, str], settled: Mapping[str, str]) -> list[str]:
    """Names of the variables that a process forked from a parent with `settled` could not have as `wanted`.

    A binding that the parent has and the process did not ask for is undone by its affinity mask.
    """
    found = [name for name, value in wanted.items() if name.startswith(SETTLED_PREFIXES) and settled.get(name) != value]
    if wanted.get(COMPATIBILITY_VARIABLE, "0").strip().lower() in {"1", "true"}:
        found.append(COMPATIBILITY_VARIABLE)
    return sorted(found)


def keeps_binding(wanted: Mapping[str, str]) -> bool:
    """Whether the process asked for the cores that its parent's OpenMP is bound to; else it takes its own mask."""
    return AFFINITY_VARIABLE in wanted


def _preloaded(own: str) -> str:
    """`LD_PRELOAD` as vLLM extends it: torch's libgomp behind, its own tcmalloc in front."""
    value = own
    if not any(name in value for name in ("libomp", "libgomp", "libiomp")):
        torch = _package("torch")
        found = [
            file
            for folder in (torch.parent / "torch.libs", torch / "lib")
            for file in glob.glob(str(folder / "libgomp*.so*"))  # noqa: PTH207 - in the order in which vLLM finds them
        ]
        value = ":".join(part for part in (value, *found[:1]) if part)
    if "libtcmalloc" not in value:
        libs = _package("vllm") / "libs"
        for pattern in ("libtcmalloc_minimal*.so*", "libtcmalloc.so*"):
            found = glob.glob(str(libs / pattern))  # noqa: PTH207 - the same
            if found:
                return ":".join(part for part in (found[0], value) if part)
    return value


def _package(name: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else Path("/nonexistent") / name
