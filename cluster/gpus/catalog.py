"""The kinds of GPU that can be planned with.

Every number is the maker's, from the document that `sources` names; memory is what drivers report. What must not live
here: prices (they are an input), efficiencies (assumptions of cluster/planner/roofline.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from cluster.core.errors import SetupError
from cluster.gpus.kind import GpuSpec, Link

GB_S = 1e9
TFLOPS = 1e12
PCIE_3 = 16e9
"""x16, one direction."""
PCIE_4 = 32e9
DRIVER = "nvidia-smi (memory.total), which is what GPU feature discovery labels nodes with"


def _sources(document: str, *, flops: str = "", link: str = "") -> Mapping[str, str]:
    return {"memory": DRIVER, "bandwidth": document, "flops": flops or document, "link": link or document}


T4 = GpuSpec(
    name="T4",
    memory_mib=15_360,
    bandwidth_bytes_per_s=320 * GB_S,
    flops_16=65 * TFLOPS,
    flops_8=None,
    has_bf16=False,
    compute=(7, 5),
    link=Link.PCIE,
    link_bytes_per_s=PCIE_3,
    sources=_sources("NVIDIA T4 Tensor Core GPU datasheet"),
    product="Tesla-T4",
    cloud_names=("nvidia-tesla-t4", "t4"),
)

A10G = GpuSpec(
    name="A10G",
    memory_mib=23_028,
    bandwidth_bytes_per_s=600 * GB_S,
    flops_16=70 * TFLOPS,
    flops_8=None,
    has_bf16=True,
    compute=(8, 6),
    link=Link.PCIE,
    link_bytes_per_s=PCIE_4,
    sources=_sources("NVIDIA A10G datasheet for AWS (2022): 70 TF dense, not the A10's 125"),
    product="NVIDIA-A10G",
    cloud_names=("a10g",),
)

RTX_3060 = GpuSpec(
    name="RTX3060",
    memory_mib=12_288,
    bandwidth_bytes_per_s=360 * GB_S,
    flops_16=25.5 * TFLOPS,
    flops_8=None,
    has_bf16=True,
    compute=(8, 6),
    link=Link.PCIE,
    link_bytes_per_s=PCIE_4,
    sources=_sources(
        "NVIDIA GeForce RTX 3060 specifications (12 GB, 192 bit, 15 Gbit/s)",
        flops=(
            "reckoned: 112 tensor cores x 128 flops a clock (fp16 summed up in fp32, half of fp16's rate: NVIDIA "
            "Ampere GA102 whitepaper) x 1.777 GHz"
        ),
    ),
    product="NVIDIA-GeForce-RTX-3060",
)

RTX_4090 = GpuSpec(
    name="RTX4090",
    memory_mib=24_564,
    bandwidth_bytes_per_s=1_008 * GB_S,
    flops_16=165.2 * TFLOPS,
    flops_8=330.3 * TFLOPS,
    has_bf16=True,
    compute=(8, 9),
    link=Link.PCIE,
    link_bytes_per_s=PCIE_4,
    sources=_sources(
        "NVIDIA Ada GPU Architecture whitepaper, appendix A", link="the same; no peer-to-peer: through host memory"
    ),
    product="NVIDIA-GeForce-RTX-4090",
)

L4 = GpuSpec(
    name="L4",
    memory_mib=23_034,
    bandwidth_bytes_per_s=300 * GB_S,
    flops_16=121 * TFLOPS,
    flops_8=242.5 * TFLOPS,
    has_bf16=True,
    compute=(8, 9),
    link=Link.PCIE,
    link_bytes_per_s=PCIE_4,
    sources=_sources("NVIDIA L4 Tensor Core GPU datasheet (242 and 485 TFLOPS with sparsity, halved)"),
    product="NVIDIA-L4",
    cloud_names=("nvidia-l4", "l4"),
)

L40S = GpuSpec(
    name="L40S",
    memory_mib=46_068,
    bandwidth_bytes_per_s=864 * GB_S,
    flops_16=362.05 * TFLOPS,
    flops_8=733 * TFLOPS,
    has_bf16=True,
    compute=(8, 9),
    link=Link.PCIE,
    link_bytes_per_s=PCIE_4,
    sources=_sources("NVIDIA L40S datasheet"),
    product="NVIDIA-L40S",
    cloud_names=("l40s",),
)

A100_40 = GpuSpec(
    name="A100-40",
    memory_mib=40_960,
    bandwidth_bytes_per_s=1_555 * GB_S,
    flops_16=312 * TFLOPS,
    flops_8=None,
    has_bf16=True,
    compute=(8, 0),
    link=Link.NVLINK,
    link_bytes_per_s=300 * GB_S,
    sources=_sources("NVIDIA A100 Tensor Core GPU datasheet, SXM 40 GB"),
    product="NVIDIA-A100-SXM4-40GB",
    cloud_names=("nvidia-tesla-a100", "a100"),
)

A100_80 = GpuSpec(
    name="A100-80",
    memory_mib=81_920,
    bandwidth_bytes_per_s=2_039 * GB_S,
    flops_16=312 * TFLOPS,
    flops_8=None,
    has_bf16=True,
    compute=(8, 0),
    link=Link.NVLINK,
    link_bytes_per_s=300 * GB_S,
    sources=_sources("NVIDIA A100 Tensor Core GPU datasheet, SXM 80 GB"),
    product="NVIDIA-A100-SXM4-80GB",
    cloud_names=("nvidia-a100-80gb",),
)

H100 = GpuSpec(
    name="H100",
    memory_mib=81_559,
    bandwidth_bytes_per_s=3_350 * GB_S,
    flops_16=989.5 * TFLOPS,
    flops_8=1_979 * TFLOPS,
    has_bf16=True,
    compute=(9, 0),
    link=Link.NVLINK,
    link_bytes_per_s=450 * GB_S,
    sources=_sources("NVIDIA H100 Tensor Core GPU datasheet, SXM (1,979 and 3,958 TFLOPS with sparsity, halved)"),
    product="NVIDIA-H100-80GB-HBM3",
    cloud_names=("nvidia-h100-80gb", "nvidia-h100-mega-80gb", "h100"),
)

H200 = GpuSpec(
    name="H200",
    memory_mib=143_771,
    bandwidth_bytes_per_s=4_800 * GB_S,
    flops_16=989.5 * TFLOPS,
    flops_8=1_979 * TFLOPS,
    has_bf16=True,
    compute=(9, 0),
    link=Link.NVLINK,
    link_bytes_per_s=450 * GB_S,
    sources=_sources("NVIDIA H200 Tensor Core GPU datasheet, SXM (1,979 and 3,958 TFLOPS with sparsity, halved)"),
    product="NVIDIA-H200",
)

B200 = GpuSpec(
    name="B200",
    memory_mib=183_359,
    bandwidth_bytes_per_s=8_000 * GB_S,
    flops_16=2_250 * TFLOPS,
    flops_8=4_500 * TFLOPS,
    has_bf16=True,
    compute=(10, 0),
    link=Link.NVLINK,
    link_bytes_per_s=900 * GB_S,
    sources=_sources("NVIDIA DGX B200 datasheet, an eighth of it (72 PFLOPS fp8 with sparsity is 4.5 dense a GPU)"),
    product="NVIDIA-B200",
)

CPU = GpuSpec(
    name="CPU",
    memory_mib=16_384,
    bandwidth_bytes_per_s=8.6 * GB_S,
    flops_16=0.336 * TFLOPS,
    flops_8=None,
    has_bf16=True,
    compute=(0, 0),
    link=Link.NONE,
    link_bytes_per_s=0.0,
    sources={
        "memory": "a choice: two cores with 16 GiB for one replica",
        "bandwidth": "measured, two cores with amx_bf16: 8.7 tokens/s of 0.99 GB of weights (docs/performance.md)",
        "flops": "measured, the same: 469 prompt tokens/s of 2 x 0.358 GFLOP (docs/performance.md)",
        "link": "none: one replica has its cores to itself",
    },
    product="",
    is_measured=True,
)

KINDS: tuple[GpuSpec, ...] = (T4, A10G, RTX_3060, RTX_4090, L4, L40S, A100_40, A100_80, H100, H200, B200, CPU)
NEAREST_MAX = 3


def find_gpu(name: str) -> GpuSpec:
    """The kind of this name; case, blanks, dashes and `nvidia` do not matter, and cloud names are known, too.

    Raises:
        SetupError: there is none; it names the nearest.
    """
    wanted = _folded(name)
    for kind in KINDS:
        if wanted in {_folded(known) for known in (kind.name, kind.product, *kind.cloud_names) if known}:
            return kind
    names = {_folded(kind.name): kind.name for kind in KINDS}
    close = difflib.get_close_matches(wanted, names, n=NEAREST_MAX, cutoff=0.5)
    close += [key for key in names if key not in close and (key.startswith(wanted) or wanted.startswith(key))]
    nearest = ", ".join(names[key] for key in close[:NEAREST_MAX])
    every = ", ".join(kind.name for kind in KINDS)
    remedy = f"did you mean {nearest}? `longreach plan gpus` lists all" if nearest else f"name one of {every}"
    raise SetupError(f"no GPU kind is called {name!r}", remedy)


def memory_by_cloud_name() -> dict[str, int]:
    """MiB of one GPU, by the name a cloud labels its nodes with."""
    return {name: kind.memory_mib for kind in KINDS for name in kind.cloud_names}


def _folded(name: str) -> str:
    return "".join(letter for letter in name.lower().replace("nvidia", "") if letter.isalnum())
