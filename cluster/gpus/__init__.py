"""Kinds of GPU by name: memory, bandwidth, arithmetic, links, each number with its source.

What must not live here: what a cluster has of them (cluster/kubernetes), what a model makes of them (cluster/planner).
"""

from cluster.gpus.catalog import KINDS, find_gpu, memory_by_cloud_name
from cluster.gpus.kind import GpuSpec, Link

__all__ = ["KINDS", "GpuSpec", "Link", "find_gpu", "memory_by_cloud_name"]
