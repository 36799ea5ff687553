"""Whether this machine can run Longreach, asked before anything is downloaded, in well under two seconds.

What lives here: one function a check, each taking what it judges, so that tests can lie to it. What must not:
changing anything on the machine.
"""

from __future__ import annotations

import enum
import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.sockets import is_port_free, owner_of_port

GIB = 2**30
ENVIRONMENT_DISK_GIB = {"cpu": 5, "gpu": 14}
"""The installed environment (3.8 GB measured for CPU) plus pip's own copies while it works."""
MODEL_DISK_GIB = 4
"""The demo model: 0.5 GB of shards, 0.5 GB joined, 1.3 GB converted, all there at once for a moment."""
NATIVE_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""Without one of these the weights are held in fp32. A test keeps them equal to those of cluster/engine/settings.py."""
PYTHON_MIN = (3, 11)
PYTHON_TESTED_MAX = (3, 12)
DEFAULT_PORTS = {8080: "the gateway"}
"""The fixed ports of cluster/local/default.yaml; a test keeps the two equal. Every other port is picked free."""
CGROUP_MEMORY = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
"""Limit, use and what of the use is idle page cache: names of cgroups version 2, then 1 (docs.kernel.org, cgroups)."""
RUN_MARKER = b"LONGREACH_RUN_DIR="


@dataclass(frozen=True, kw_only=True)
class MemoryBounds:
    """What the default configuration takes."""

    one_pool_gib: float
    both_pools_gib: float


BF16_BOUNDS = MemoryBounds(one_pool_gib=5.2, both_pools_gib=9.1)
FP32_BOUNDS = MemoryBounds(one_pool_gib=6.1, both_pools_gib=10.9)
"""What cluster/local/fit.py works out for the demo model, rounded up; a test keeps them together."""


class Verdict(enum.Enum):
    """How a check ended; only a failure stops."""

    FINE = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check saw, and what to do about it."""

    check: str
    verdict: Verdict
    seen: str
    remedy: str = ""

    def line(self) -> str:
        """One line for people."""
        mark = {Verdict.FINE: "ok  ", Verdict.WARNING: "warn", Verdict.FAILURE: "FAIL"}[self.verdict]
        advice = f"\n         remedy: {self.remedy}" if self.remedy else ""
        return f"  {mark} {self.check}: {self.seen}{advice}"


def check_system(system: str, machine: str) -> Finding:
    """Linux on x86-64 is what the pinned wheels are built for."""
    seen = f"{system} {machine}"
    if system == "Linux" and machine in {"x86_64", "AMD64"}:
        return Finding(check="system", verdict=Verdict.FINE, seen=seen)
    remedy = "use a Linux machine with an x86-64 processor (a virtual machine will do; on Windows, WSL 2)"
    return Finding(check="system", verdict=Verdict.FAILURE, seen=seen, remedy=remedy)


def check_cpu(flags: frozenset[str], accelerator: str) -> Finding:
    """The CPU build of vLLM needs AVX2; AVX-512 and bf16 instructions make it faster."""
    if accelerator == "gpu":
        return Finding(check="processor", verdict=Verdict.FINE, seen="the GPU does the work")
    if "avx2" not in flags:
        return Finding(
            check="processor",
            verdict=Verdict.FAILURE,
            seen="no AVX2, which the engine's CPU build needs",
            remedy="use a machine with AVX2 (Intel since 2013, AMD since 2015); in a virtual machine, pass the CPU on",
        )
    bonus = [name for name in ("avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    if "avx512f" in flags:
        return Finding(check="processor", verdict=Verdict.FINE, seen=", ".join(["avx2", *bonus]))
    return Finding(
        check="processor", verdict=Verdict.WARNING, seen="avx2 without avx512: answers will be slower", remedy=""
    )


def memory_bounds(flags: frozenset[str]) -> MemoryBounds:
    """What the default configuration takes on a processor with these flags."""
    return BF16_BOUNDS if flags & NATIVE_BF16_FLAGS else FP32_BOUNDS


def check_memory(available_bytes: int, flags: frozenset[str], *, cluster_runs: bool = False) -> Finding:
    """Memory for one pool is a must, for two a comfort; a cluster that runs already has taken what it needs."""
    gib = available_bytes / GIB
    bounds = memory_bounds(flags)
    seen = f"{gib:.1f} GiB available"
    if cluster_runs:
        return Finding(check="memory", verdict=Verdict.FINE, seen=f"{seen}, beside a running Longreach")
    if gib < bounds.one_pool_gib:
        remedy = f"free some memory: one pool of the demo model needs about {bounds.one_pool_gib} GiB"
        return Finding(check="memory", verdict=Verdict.FAILURE, seen=seen, remedy=remedy)
    if gib < bounds.both_pools_gib:
        remedy = f"have {bounds.both_pools_gib} GiB available to get both pools; one pool will run"
        return Finding(check="memory", verdict=Verdict.WARNING, seen=seen, remedy=remedy)
    return Finding(check="memory", verdict=Verdict.FINE, seen=seen)


def check_disk(where: str, free_bytes: int, needed_gib: float) -> Finding:
    """Room for what is about to be written at `where`."""
    gib = free_bytes / GIB
    check = f"disk for {where}"
    if gib < needed_gib:
        remedy = f"free {needed_gib - gib:.1f} GiB more there"
        return Finding(check=check, verdict=Verdict.FAILURE, seen=f"{gib:.1f} GiB free", remedy=remedy)
    return Finding(check=check, verdict=Verdict.FINE, seen=f"{gib:.0f} GiB free")


def check_python(version: tuple[int, int], has_module: Callable[[str], bool]) -> Finding:
    """The interpreter, and the two modules some distributions split off."""
    seen = f"{version[0]}.{version[1]}"
    for module in ("venv", "ensurepip"):
        if not has_module(module):
            remedy = f"install it with your system's packages (Debian, Ubuntu: apt-get install python{seen}-venv)"
            return Finding(check="python", verdict=Verdict.FAILURE, seen=f"{seen} without {module}", remedy=remedy)
    if version < PYTHON_MIN:
        remedy = "install Python 3.11 or 3.12, or name one: make up PYTHON=/path/to/python3.11"
        return Finding(check="python", verdict=Verdict.FAILURE, seen=seen, remedy=remedy)
    if version > PYTHON_TESTED_MAX:
        remedy = "if the installation fails, use Python 3.11 or 3.12: make up PYTHON=/path/to/python3.11"
        return Finding(check="python", verdict=Verdict.WARNING, seen=f"{seen} (not tested)", remedy=remedy)
    return Finding(check="python", verdict=Verdict.FINE, seen=seen)


def check_port(port: int, use: str) -> Finding:
    """A fixed port; our own running cluster may hold it."""
    check = f"port {port}"
    if is_port_free("127.0.0.1", port):
        return Finding(check=check, verdict=Verdict.FINE, seen="free")
    owner = owner_of_port(port, "127.0.0.1")
    if owner is not None and _is_ours(owner.pid):
        return Finding(check=check, verdict=Verdict.FINE, seen=f"held by a running Longreach (process {owner.pid})")
    who = f"process {owner.pid} ({owner.command})" if owner else "a process of another user"
    remedy = f"stop it, or use another port for {use}: a copy of cluster/local/default.yaml, then make up CONFIG=FILE"
    return Finding(check=check, verdict=Verdict.FAILURE, seen=f"taken by {who}", remedy=remedy)


def run_preflight(
    *, accelerator: str, environment: Path, cache: Path, installs: bool, ports: Mapping[int, str]
) -> tuple[Finding, ...]:
    """Every check of this machine.

    Args:
        accelerator: `cpu` or `gpu`.
        environment: where the virtual environment is or will be.
        cache: where models are kept.
        installs: whether packages are about to be installed.
        ports: port to use, those to find free; empty when no cluster is about to start.
    """
    findings = [
        check_system(platform.system(), platform.machine()),
        check_python(sys.version_info[:2], lambda name: importlib.util.find_spec(name) is not None),
    ]
    if findings[0].verdict is Verdict.FAILURE:
        return tuple(findings)  # the other checks read Linux's own files
    flags = cpu_flags()
    findings += [
        check_cpu(flags, accelerator),
        check_memory(memory_available_bytes(), flags, cluster_runs=_cluster_runs()),
        *_disk_findings(accelerator=accelerator, environment=environment, cache=cache, installs=installs),
        *(check_port(port, use) for port, use in ports.items()),
    ]
    return tuple(findings)


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the processor can do, by the kernel's names."""
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("flags"):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def memory_available_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """What can be had without swapping, within the container's own limit when there is one.

    Pages of files that nobody has touched for a while count as used by the container, and the kernel gives them up on
    demand; without them, a container that has just unpacked an environment looks full.
    """
    fields = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
    available = int(fields["MemAvailable"].split()[0]) * 1024
    for limit_file, used_file, reclaimable in CGROUP_MEMORY:
        try:
            limit = int((cgroup / limit_file).read_text(encoding="ascii"))
            used = int((cgroup / used_file).read_text(encoding="ascii"))
            stat = (cgroup / used_file).with_name("memory.stat").read_text(encoding="ascii")
        except (OSError, ValueError):
            continue  # the other version, or no limit ("max")
        cached = int(dict(line.split() for line in stat.splitlines()).get(reclaimable, 0))
        return min(available, max(0, limit - used + cached))
    return available


def _disk_findings(*, accelerator: str, environment: Path, cache: Path, installs: bool) -> list[Finding]:
    environment_gib = ENVIRONMENT_DISK_GIB[accelerator] if installs else 0
    homes = {"environment": (environment, environment_gib), "models": (cache, MODEL_DISK_GIB)}
    if any(cache.glob("models/*")):
        homes["models"] = (cache, 0)
    shared = _existing(environment).stat().st_dev == _existing(cache).stat().st_dev
    if shared:
        total = sum(gib for _, gib in homes.values())
        return [check_disk("environment and models", shutil.disk_usage(_existing(environment)).free, total)]
    return [check_disk(name, shutil.disk_usage(_existing(path)).free, gib) for name, (path, gib) in homes.items()]


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _cluster_runs() -> bool:
    return any(_is_ours(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _is_ours(pid: int) -> bool:
    try:
        return RUN_MARKER in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
