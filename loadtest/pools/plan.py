"""What is compared: the same two replicas as a short and a long pool, and as one pool; and the load on both.

What must not live here: starting clusters, sending.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

CLUSTER = "bench-pools"
MODEL = "bench-model"
SHORT_CONTEXT_TOKENS = 4_096
LONG_CONTEXT_TOKENS = 32_768
SCENARIO = "mixed"
"""Whose short requests are the same, at the same times, with long ones and without."""
WARMUP_S = 10.0
DRAIN_S = 180.0
"""A long prompt that was due last waits for those before it."""


class Layout(StrEnum):
    """How the two replicas are arranged; each has the same share of the machine in both."""

    POOLS = "two pools"
    """One replica for short requests, one for long ones."""
    ONE = "one pool"
    """Both hold everything, and the gateway chooses by load and cached prefixes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    model: str
    """By the name in the catalog, on the hub, or a folder."""
    rate_per_s: float
    """Sessions a second, long ones included."""
    seconds: float
    """Of one run, in which requests are due."""
    rounds: int
    """In each, every layout is sent the load without long requests and with them."""
    short_tokens: int
    short_output_tokens: int
    long_tokens: int
    long_output_tokens: int
    long_share: float
    seed: int

    def settings(self, *, with_long: bool) -> tuple[str, ...]:
        """Of the scenario."""
        return (
            f"short_tokens={self.short_tokens}",
            f"short_output_tokens={self.short_output_tokens}",
            f"long_tokens={self.long_tokens}",
            f"long_output_tokens={self.long_output_tokens}",
            f"long_share={self.long_share}",
            f"with_long={'yes' if with_long else 'no'}",
        )


def configuration(layout: Layout, model: str, *, core: int, port_min: int) -> dict[str, Any]:
    """The configuration file, as data.

    Args:
        layout: how the replicas are arranged.
        model: theirs.
        core: where engines start, with one thread each; they are moved apart later (cores.py).
        port_min: the first port of replicas.
    """
    engine = {"env": {"VLLM_CPU_OMP_THREADS_BIND": str(core)}}
    pool = {"model": MODEL, "context_tokens": LONG_CONTEXT_TOKENS, "engine": engine}
    match layout:
        case Layout.POOLS:
            pools = [{**pool, "name": "short", "context_tokens": SHORT_CONTEXT_TOKENS}, {**pool, "name": "long"}]
        case Layout.ONE:
            pools = [{**pool, "name": "all", "replicas": {"min": 2, "max": 2}}]
    return {
        "cluster": {"name": CLUSTER, "ray_port": 0, "replica_port_min": port_min},
        "models": [{"id": MODEL, "source": model}],
        "pools": pools,
        "gateway": {"host": "127.0.0.1", "port": 0},
    }
