"""What is known of one kind of GPU, from its maker.

What must not live here: the kinds (catalog.py), how much of a peak is reached (cluster/planner/roofline.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MIB = 2**20


class Link(StrEnum):
    """What joins the GPUs of one node."""

    NVLINK = "nvlink"
    PCIE = "pcie"
    NONE = "none"
    """They do not serve one replica together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSpec:
    """One kind. Arithmetic is dense: makers print numbers with sparsity, twice as large, beside it."""

    name: str
    """As it is named on the command line."""
    memory_mib: int
    """As its driver reports it, which is less than the number in its name."""
    bandwidth_bytes_per_s: float
    """Of its memory."""
    flops_16: float
    """A second, in bf16 or fp16, summed up in fp32."""
    flops_8: float | None
    """The same in fp8; None: it has no fp8 arithmetic."""
    has_bf16: bool
    compute: tuple[int, int]
    """CUDA compute capability; (0, 0) is no CUDA device."""
    link: Link
    link_bytes_per_s: float
    """From one GPU to the others of its node, in one direction; makers print both directions together."""
    sources: Mapping[str, str]
    """Of memory, bandwidth, flops and link."""
    product: str
    """The label `nvidia.com/gpu.product` that GPU feature discovery gives it; empty: none."""
    cloud_names: tuple[str, ...] = ()
    """As clouds label nodes where GPU feature discovery does not run."""
    is_measured: bool = False
    """Bandwidth and arithmetic are what an engine reached, not peaks."""

    @property
    def memory_bytes(self) -> int:
        """Of one GPU."""
        return self.memory_mib * MIB

    @property
    def is_cpu(self) -> bool:
        """Whether it is a processor and no card."""
        return self.compute == (0, 0)

    @property
    def spans(self) -> bool:
        """Whether several of a node can serve one replica together."""
        return self.link is not Link.NONE
