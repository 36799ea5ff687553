"""What a machine has to compute with, read from the operating system.

What must not live here: what follows from it (cluster/engine/settings.py).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from cluster.engine.plan import Accelerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One machine's means."""

    accelerator: Accelerator
    cores: tuple[int, ...]
    """The CPU cores this process may use."""
    cpu_flags: frozenset[str]
    memory_bytes: int


def detect_hardware(*, in_pod: bool = False, root: Path = Path("/")) -> Hardware:
    """Look at this machine.

    Args:
        in_pod: a pod has its node's /proc/driver whether or not it was given a GPU, so there only devices count.
            Elsewhere the driver does too, since it makes its devices when they are first used.
        root: where /dev and /proc/driver are.
    """
    has_cuda = (root / "dev/nvidiactl").exists() or (not in_pod and (root / "proc/driver/nvidia/version").exists())
    return Hardware(
        accelerator=Accelerator.CUDA if has_cuda else Accelerator.CPU,
        cores=tuple(sorted(os.sched_getaffinity(0))),
        cpu_flags=_cpu_flags(Path("/proc/cpuinfo").read_text(encoding="utf-8")),
        memory_bytes=psutil.virtual_memory().total,
    )


def _cpu_flags(cpuinfo: str) -> frozenset[str]:
    for line in cpuinfo.splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()
