"""What a replica of so many GPUs of a kind holds, and how fast it is.

What must not live here: how many there should be (layout.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from cluster.core.capacity import ModelNeed, context_limit, kv_tokens
from cluster.core.capacity.load import ReplicaSpec, prefill_s
from cluster.core.capacity.replica import RUNNING_MAX, kv_room_bytes
from cluster.core.capacity.step import StepCost
from cluster.gpus import GpuSpec
from cluster.models.card import ModelCard
from cluster.planner.roofline import step_cost

GPU_STEP_TOKENS = 8_192
"""As a replica is configured by default (cluster/engine/settings.py)."""
CPU_STEP_TOKENS = 1_024
NODE_CARDS = 8
"""Of a node where none was said: most servers have at most so many."""
SPEED_PROMPT_TOKENS = 8_192
"""Prompt for which prefill speed is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A replica of one shape."""

    gpu: GpuSpec
    ranks: int
    weights_bytes: int
    """On each card."""
    kv_room_bytes: int
    """The same, for KV cache."""
    kv_tokens: int
    """That the whole replica holds."""
    context_tokens: int
    """The longest it can promise; 0 where it is not worth a pool."""
    cost: StepCost
    is_measured: bool = False
    """Its speed comes from a calibration."""

    @property
    def batch_tokens(self) -> int:
        """Of one step."""
        return CPU_STEP_TOKENS if self.gpu.is_cpu else GPU_STEP_TOKENS

    @property
    def prefill_tokens_per_s(self) -> float:
        """Of a prompt of `SPEED_PROMPT_TOKENS`."""
        return SPEED_PROMPT_TOKENS / self.prefill_s(SPEED_PROMPT_TOKENS)

    @property
    def decode_tokens_per_s(self) -> float:
        """Of one stream with little context."""
        return 1 / (self.cost.base_s + self.cost.weights_s + self.cost.sequence_s)

    def prefill_s(self, prompt_tokens: int) -> float:
        """Seconds until the first token of a prompt, alone."""
        return prefill_s(self.cost, begin_tokens=0, end_tokens=prompt_tokens, batch_tokens=self.batch_tokens)

    def running(self, held_tokens: float, kv_ratio: float) -> int:
        """Sequences that run at once where each holds so many tokens in the mean, and together that part of the KV."""
        return min(RUNNING_MAX, max(1, int(self.kv_tokens * kv_ratio / max(held_tokens, 1.0))))

    def spec(self, max_running: int) -> ReplicaSpec:
        """For the sums of a load."""
        return ReplicaSpec(
            cost=self.cost, kv_tokens=self.kv_tokens, max_running=max_running, batch_tokens=self.batch_tokens
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCost:
    """A calibration: what a replica of a shape takes."""

    gpu: str
    ranks: int
    cost: StepCost


def shapes_of(
    card: ModelCard,
    need: ModelNeed,
    gpu: GpuSpec,
    *,
    most_ranks: int = NODE_CARDS,
    memory_ratio: float,
    measured: MeasuredCost | None = None,
) -> tuple[Shape, ...]:
    """Every way to divide the model over GPUs of a kind, fewest first; also those that hold too little."""
    found = []
    for ranks in need.ranks(most_ranks if gpu.spans else 1):
        size = {"card_bytes": gpu.memory_bytes, "ranks": ranks}
        found.append(
            Shape(
                gpu=gpu,
                ranks=ranks,
                weights_bytes=-(-need.weights_bytes // ranks),
                kv_room_bytes=kv_room_bytes(need, **size, memory_ratio=memory_ratio),
                kv_tokens=kv_tokens(need, **size, memory_ratio=memory_ratio),
                context_tokens=context_limit(need, **size, memory_ratio=memory_ratio),
                cost=_cost(card, gpu, ranks, measured),
                is_measured=measured is not None and (measured.gpu, measured.ranks) == (gpu.name, ranks),
            )
        )
    return tuple(found)


def _cost(card: ModelCard, gpu: GpuSpec, ranks: int, measured: MeasuredCost | None) -> StepCost:
    """Measured where this shape was; else the roofline, corrected by what was measured of another shape of the kind."""
    planned = step_cost(card, gpu, ranks)
    if measured is None or measured.gpu != gpu.name:
        return planned
    if measured.ranks == ranks:
        return measured.cost
    reference = step_cost(card, gpu, measured.ranks)
    return StepCost(**_scaled(planned, measured.cost, reference))


def _scaled(planned: StepCost, measured: StepCost, reference: StepCost) -> Mapping[str, float]:
    names = [field.name for field in fields(StepCost)]
    return {
        name: getattr(planned, name) * (getattr(measured, name) / getattr(reference, name))
        if getattr(reference, name)
        else getattr(measured, name)
        for name in names
    }
