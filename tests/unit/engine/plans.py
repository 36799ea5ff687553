"""Plans, cards and machines for the tests of what follows from them.

What must not live here: tests.
"""

from __future__ import annotations

from typing import Any

from cluster.config import Config, parse_config
from cluster.engine.hardware import Hardware
from cluster.engine.plan import Accelerator, ReplicaPlan
from cluster.engine.settings import replica_plan
from cluster.models.card import Dtype, FolderSource, ModelCard, SamplingDefaults, kv_bytes_per_token

GIB = 2**30


def config(pool: str = "", *, model: str = "{id: tiny}", cluster: str = "{}", redis: str = "{}") -> Config:
    """One pool with these further keys, in YAML's flow style."""
    keys = f", {pool}" if pool else ""
    context = "" if "context_tokens" in pool else ", context_tokens: 32768"
    return parse_config(
        f"models: [{model}]\ncluster: {cluster}\nredis: {redis}\npools: [{{name: short, model: tiny{context}{keys}}}]\n"
    )


def card(**changes: Any) -> ModelCard:
    """A model of 24 layers, 2 KV heads of 64, in bf16."""
    values: dict[str, Any] = {
        "id": "tiny",
        "source": FolderSource(path="/models/tiny"),
        "revision": None,
        "context_tokens": 262_144,
        "kv_bytes_per_token": kv_bytes_per_token(layers=24, kv_heads=2, head_dim=64, dtype=Dtype.BFLOAT16),
        "weights_bytes": GIB,
        "dtype": Dtype.BFLOAT16,
        "tool_parser": "hermes",
        "sampling": SamplingDefaults(temperature=0.7, top_k=20),
    }
    return ModelCard(**(values | changes))


def machine(**changes: Any) -> Hardware:
    """A CPU machine of four cores without bf16 instructions."""
    values: dict[str, Any] = {
        "accelerator": Accelerator.CPU,
        "cores": (0, 1, 2, 3),
        "cpu_flags": frozenset({"fpu", "avx2"}),
        "memory_bytes": 32 * GIB,
    }
    return Hardware(**(values | changes))


CUDA = machine(accelerator=Accelerator.CUDA)


def plan(
    pool: str = "",
    *,
    model: str = "{id: tiny}",
    cluster: str = "{}",
    redis: str = "{}",
    hardware: Hardware | None = None,
    state_url: str | None = None,
    **changes: Any,
) -> ReplicaPlan:
    """The plan of the one pool; `changes` are the card's."""
    made = config(pool, model=model, cluster=cluster, redis=redis)
    return replica_plan(
        made,
        made.pools[0],
        card=card(**changes),
        folder="/models/tiny",
        state_url=state_url,
        hardware=hardware or machine(),
    )
