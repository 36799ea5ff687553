"""What the fault suite runs on and how long: its cluster's configuration, and the load's pace.

What must not live here: starting it (bench.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from loadtest.chaos.kinds import MODEL

CLUSTER = "bench-chaos"
SHORT, LONG = "short", "long"
POOLS = (SHORT, LONG)
REPLICAS = 2
SHORT_TOKENS, LONG_TOKENS = 4_096, 65_536
WORKERS = 2
ENGINE: dict[str, Any] = {
    "dtype": "float32", "max_running": 8, "max_queued": 0, "drain_s": 120, "kv_cache_gib": 0.06,
    # A model with random weights would fill every JSON with blanks up to its limit.
    "extra_args": {"structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True}},
}  # fmt: skip
"""Of every replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How hard and how long."""

    rate_per_s: float = 0.7
    """Requests, evenly spaced, each of the next kind; one of every kind more when the fault is made."""
    before_s: float = 10.0
    """Of load before the fault."""
    after_s: float = 10.0
    """Of load after everything is well again."""

    def as_data(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


def configuration(*, port_min: int) -> dict[str, Any]:
    """The configuration file, as data: two pools of two replicas, fp32, behind a gateway of two workers.

    Args:
        port_min: the first port of replicas.
    """
    pool = {"model": MODEL, "replicas": {"min": REPLICAS, "max": REPLICAS}}
    return {
        "cluster": {"name": CLUSTER, "ray_port": 0, "replica_port_min": port_min},
        "models": [{"id": MODEL, "tool_parser": "hermes"}],
        "pools": [
            {**pool, "name": SHORT, "context_tokens": SHORT_TOKENS, "engine": ENGINE},
            # What it computes outlives it in Redis; its own cache holds less than what is asked of it.
            {
                **pool,
                "name": LONG,
                "context_tokens": LONG_TOKENS,
                "engine": {**ENGINE, "kv_cache_gib": 0.075, "redis_tier": {"enabled": True}},
            },
        ],
        # In an overload the steady load goes before the flood.
        "tenants": [{"name": "default", "priority": "high"}],
        "gateway": {"host": "127.0.0.1", "port": 0, "workers": WORKERS},
    }
