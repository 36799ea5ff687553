"""Reading /proc/cpuinfo, as different machines write it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.engine.hardware import _cpu_flags, detect_hardware
from cluster.engine.plan import Accelerator

X86 = """processor\t: 0
model name\t: Some CPU
vmx flags\t: vnmi ept
flags\t\t: fpu vme avx2 avx512_bf16
bugs\t\t: spectre_v1

processor\t: 1
flags\t\t: fpu vme avx2 avx512_bf16
"""
ARM = """processor\t: 0
Features\t: fp asimd bf16
"""


@pytest.mark.parametrize(
    ("text", "flags"),
    [(X86, {"fpu", "vme", "avx2", "avx512_bf16"}), (ARM, set()), ("", set()), ("flags\t\t:\n", set())],
    ids=["x86", "arm", "nothing", "no flags"],
)
def test_cpu_flags(text: str, flags: set[str]) -> None:
    assert _cpu_flags(text) == flags


def test_this_machine() -> None:
    found = detect_hardware()
    assert set(found.cores) == os.sched_getaffinity(0)
    assert list(found.cores) == sorted(found.cores)
    assert found.memory_bytes > 0


@pytest.mark.parametrize(
    ("present", "in_pod", "expected"),
    [
        ((), False, Accelerator.CPU),
        (("proc/driver/nvidia/version",), False, Accelerator.CUDA),
        (("dev/nvidiactl",), False, Accelerator.CUDA),
        (("proc/driver/nvidia/version",), True, Accelerator.CPU),
        (("proc/driver/nvidia/version", "dev/nvidiactl"), True, Accelerator.CUDA),
    ],
)
def test_a_pod_has_the_devices_it_was_given(
    tmp_path: Path, present: tuple[str, ...], in_pod: bool, expected: Accelerator
) -> None:
    for name in present:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert detect_hardware(in_pod=in_pod, root=tmp_path).accelerator is expected
