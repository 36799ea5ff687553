"""The configuration of the bench's own cluster, made from what is to be measured.

What must not live here: starting it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLUSTER = "bench-prefix"
POOL = "bench"
REPLICAS = 2
CONTEXT_STEP_TOKENS = 1_024
MAX_RUNNING = 8
OWN_TOKENS = 256
"""Beyond one context: vLLM keeps a block for itself, of 128 tokens on CPUs, and does not start with less."""
GIB = 2**30
CACHE_GIB = 2.0
"""Blocks of all policies' runs of the default workload take a quarter of it."""
POLICY_FIRST = "balanced"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterShape:
    """What the bench asks of its cluster."""

    model: str
    """By the name in the catalog, on the hub, or a folder."""
    dtype: str
    context_tokens: int
    """At least; rounded up."""
    cache_tokens: int
    """KV cache of each replica, in tokens; never less than one context."""
    kv_bytes_per_token: int
    with_tier: bool

    @property
    def rounded_context_tokens(self) -> int:
        """The pool's limit."""
        return -(-self.context_tokens // CONTEXT_STEP_TOKENS) * CONTEXT_STEP_TOKENS

    @property
    def room_tokens(self) -> int:
        """Tokens that the KV cache of a replica has room for."""
        return max(self.cache_tokens, self.rounded_context_tokens + OWN_TOKENS)


def configuration(shape: ClusterShape, *, keys_file: Path, port_min: int, policy: str = POLICY_FIRST) -> dict[str, Any]:
    """The configuration file, as data.

    Args:
        shape: what is to be measured.
        keys_file: the tenants' keys.
        port_min: the first port of replicas.
        policy: of routing.
    """
    engine: dict[str, Any] = {
        "dtype": shape.dtype,
        "kv_cache_gib": round(shape.room_tokens * shape.kv_bytes_per_token / GIB, 6),
        "max_running": MAX_RUNNING,
    }
    if shape.with_tier:
        engine["redis_tier"] = {"enabled": True}
    return {
        "cluster": {"name": CLUSTER, "ray_port": 0, "replica_port_min": port_min},
        "models": [{"id": "bench-model", "source": shape.model}],
        "pools": [
            {
                "name": POOL,
                "model": "bench-model",
                "context_tokens": shape.rounded_context_tokens,
                "replicas": {"min": REPLICAS, "max": REPLICAS},
                "engine": engine,
            }
        ],
        "redis": {"cache_gib": CACHE_GIB},
        "gateway": {
            "host": "127.0.0.1",
            "port": 0,
            "auth": {"keys_file": str(keys_file)},
            "routing": {"policy": policy},
        },
    }
