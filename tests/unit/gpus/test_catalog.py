"""The catalog of GPUs: names, sources, and numbers that have to hang together."""

from __future__ import annotations

import pytest

from cluster.core.errors import SetupError
from cluster.gpus import KINDS, GpuSpec, Link, find_gpu, memory_by_cloud_name

GPUS = [gpu for gpu in KINDS if not gpu.is_cpu]


def test_every_kind_that_was_asked_for_is_there() -> None:
    names = "T4 A10G RTX3060 RTX4090 L4 L40S A100-40 A100-80 H100 H200 B200 CPU"
    assert [gpu.name for gpu in KINDS] == names.split()


@pytest.mark.parametrize("gpu", KINDS, ids=lambda gpu: gpu.name)
def test_every_number_has_a_source(gpu: GpuSpec) -> None:
    assert set(gpu.sources) == {"memory", "bandwidth", "flops", "link"}
    assert all(gpu.sources.values())


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_numbers_are_those_of_one_card(gpu: GpuSpec) -> None:
    """What a slip of units, of sparsity or of both directions would break."""
    assert 10_000 < gpu.memory_mib < 200_000
    assert 3e11 <= gpu.bandwidth_bytes_per_s <= 8e12
    # A card reads all its memory in 17 ms (H100 and its like) to 77 ms (L4): none is off by ten.
    assert 0.015 < gpu.memory_bytes / gpu.bandwidth_bytes_per_s < 0.09
    assert gpu.flops_8 is None or 1.9 < gpu.flops_8 / gpu.flops_16 < 2.1
    assert (gpu.flops_8 is not None) == (gpu.compute >= (8, 9)), "fp8 came with Ada and Hopper"
    assert gpu.has_bf16 == (gpu.compute >= (8, 0)), "bf16 came with Ampere"
    assert (gpu.link is Link.NVLINK) == (gpu.link_bytes_per_s > 100e9)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("l4", "L4"),
        ("NVIDIA-L4", "L4"),
        ("rtx 4090", "RTX4090"),
        ("RTX-3060", "RTX3060"),
        ("a100-80", "A100-80"),
        ("NVIDIA-A100-SXM4-80GB", "A100-80"),
        ("nvidia-tesla-t4", "T4"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("cpu", "CPU"),
    ],
)
def test_names_are_found_as_people_and_nodes_write_them(name: str, found: str) -> None:
    assert find_gpu(name).name == found


@pytest.mark.parametrize(
    ("name", "nearest"), [("RTX409", "RTX4090"), ("A100", "A100-40"), ("H20", "H200"), ("L40", "L40S")]
)
def test_an_unknown_name_gets_the_nearest(name: str, nearest: str) -> None:
    if name == "A100":
        assert find_gpu(name).name == nearest, "as Karpenter's label means the 40 GB card"
        return
    with pytest.raises(SetupError, match="no GPU kind") as raised:
        find_gpu(name)
    assert nearest in raised.value.remedy


def test_a_name_like_none_gets_all() -> None:
    with pytest.raises(SetupError) as raised:
        find_gpu("MI300X")
    assert "B200" in raised.value.remedy


def test_no_cloud_name_means_two_kinds() -> None:
    names = [name for gpu in KINDS for name in gpu.cloud_names]
    assert len(names) == len(set(names)) == len(memory_by_cloud_name())
