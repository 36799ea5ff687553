"""What is compared, and the cluster in which it is: two pools that differ in one setting.

What must not live here: starting it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

CLUSTER = "bench-start"
CONTEXT_TOKENS = 4_096
"""Nothing of a start but the KV cache's size depends on it."""
MAX_RUNNING = 8


class Way(StrEnum):
    """How an engine's processes come to be; also the name of the pool that starts them so."""

    SPAWNED = "spawned"
    """Each a new interpreter, which imports vLLM for itself."""
    FORKED = "forked"
    """From a warm parent (`pools[].engine.fast_start`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    model: str
    """By the name in the catalog, on the hub, or a folder."""
    dtype: str
    rounds: int
    """In each of them a replica of every way is started."""


def configuration(plan: Plan, *, port_min: int) -> dict[str, Any]:
    """The configuration file, as data; `port_min` is the first port of replicas."""
    return {
        "cluster": {"name": CLUSTER, "ray_port": 0, "replica_port_min": port_min},
        "models": [{"id": "bench-model", "source": plan.model}],
        "pools": [
            {
                "name": str(way),
                "model": "bench-model",
                "context_tokens": CONTEXT_TOKENS,
                "engine": {"dtype": plan.dtype, "max_running": MAX_RUNNING, "fast_start": way is Way.FORKED},
            }
            for way in Way
        ],
        "gateway": {"host": "127.0.0.1", "port": 0},
    }


def turns(rounds: int) -> list[Way]:
    """Which way comes when: in turns, and in every second round the other way round, so that none is always first."""
    return [way for number in range(rounds) for way in (Way if number % 2 == 0 else reversed(Way))]
