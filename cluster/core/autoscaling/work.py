"""What a replica does, measured by itself: its lease carries it, and a pool's speed is made of it.

What must not live here: how steps are observed (cluster/engine), clocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any

from cluster.core.autoscaling.demand import PoolSpeed

WINDOW_S = 60.0
"""Time constant of the averages, in seconds in which the engine computed: a change of traffic shows within a minute of
work, and a night without any changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaWork:
    """One replica, since it began to serve."""

    prefilled_tokens: int = 0
    """Prompt tokens it computed, without those that were cached; only ever more."""
    output_tokens: int = 0
    """Only ever more."""
    prefill_tokens_per_s: float = 0.0
    """While it computes prompts; 0: it has computed none."""
    decode_tokens_per_s: float = 0.0
    """Of all sequences together, while it generates; 0: it has not."""
    decode_sequences: float = 0.0
    """Sequences that generated then, on average."""
    kv_tokens: int = 0
    """Tokens whose KV cache it holds; 0: not known."""
    startup_s: float = 0.0
    """From its constructor until it served; 0: not known. The order came earlier, see startup.py."""

    def to_dict(self) -> dict[str, Any]:
        """For the lease."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> ReplicaWork | None:
        """What `to_dict` made, by this version or another; None where it says nothing that can be used."""
        if data is None:
            return None
        try:
            known: dict[str, Any] = {
                each.name: (float if each.type == "float" else int)(data.get(each.name, 0)) for each in fields(cls)
            }
        except (TypeError, ValueError, OverflowError):
            return None
        if not all(math.isfinite(value) and value >= 0 for value in known.values()):
            return None
        return cls(**known)


class WorkMeter:
    """Adds up an engine's steps.

    Prefill and decode have each their own busy time: that of the steps in which any prompt token, or any output token,
    was computed. So a mixed step slows both down, which is what a pool's replicas really do.

    Args:
        kv_tokens: as `ReplicaWork.kv_tokens`.
    """

    def __init__(self, kv_tokens: int = 0) -> None:
        self.kv_tokens = kv_tokens
        self.startup_s = 0.0
        self._prefill = _Speed()
        self._decode = _Speed()
        self._since_s: float | None = None

    def arrived(self, now_s: float, *, is_alone: bool) -> None:
        """A request goes to the engine; `is_alone`: nothing else is there, so that the time before was no work."""
        if is_alone:
            self._since_s = now_s

    def stepped(
        self, now_s: float, *, prefilling: int, decoding: int, prefilled_tokens: int, output_tokens: int
    ) -> None:
        """A step has ended.

        Args:
            now_s: monotonic seconds.
            prefilling: sequences whose prompts it computed at.
            decoding: sequences that got a further token.
            prefilled_tokens: of prompts that were completed with it.
            output_tokens: first tokens included.
        """
        step_s = 0.0 if self._since_s is None else max(now_s - self._since_s, 0.0)
        self._since_s = now_s
        if prefilling or prefilled_tokens:
            self._prefill.add(step_s, prefilled_tokens, prefilling)
        if decoding or output_tokens:
            self._decode.add(step_s if decoding else 0.0, output_tokens, decoding)

    def work(self) -> ReplicaWork:
        """The sums so far."""
        return ReplicaWork(
            prefilled_tokens=self._prefill.total_tokens,
            output_tokens=self._decode.total_tokens,
            prefill_tokens_per_s=self._prefill.tokens_per_s,
            decode_tokens_per_s=self._decode.tokens_per_s,
            decode_sequences=self._decode.sequences,
            kv_tokens=self.kv_tokens,
            startup_s=self.startup_s,
        )


class _Speed:
    """Tokens by busy time, older ones counting ever less."""

    __slots__ = ("_busy_s", "_sequences_s", "_tokens", "total_tokens")

    def __init__(self) -> None:
        self.total_tokens = 0
        self._tokens = 0.0
        self._busy_s = 0.0
        self._sequences_s = 0.0

    def add(self, step_s: float, tokens: int, sequences: int) -> None:
        kept = math.exp(-step_s / WINDOW_S)
        self.total_tokens += tokens
        self._tokens = self._tokens * kept + tokens
        self._busy_s = self._busy_s * kept + step_s
        self._sequences_s = self._sequences_s * kept + sequences * step_s

    @property
    def tokens_per_s(self) -> float:
        return self._tokens / self._busy_s if self._busy_s > 0 else 0.0

    @property
    def sequences(self) -> float:
        return self._sequences_s / self._busy_s if self._busy_s > 0 else 0.0


def pool_speed(works: Sequence[ReplicaWork], *, max_running: int) -> PoolSpeed | None:
    """What one replica of a pool does: the mean of those that have done anything; None where none has.

    Args:
        works: of its replicas.
        max_running: sequences that one of them runs at once; 0: not known.
    """
    prefill = [work.prefill_tokens_per_s for work in works if work.prefill_tokens_per_s > 0]
    decode = [work for work in works if work.decode_tokens_per_s > 0]
    if not prefill or not decode:
        return None
    return PoolSpeed(
        prefill_tokens_per_s=fmean(prefill),
        decode_tokens_per_s=fmean(work.decode_tokens_per_s for work in decode),
        decode_sequences=fmean(work.decode_sequences for work in decode),
        kv_tokens=min(work.kv_tokens for work in works),
        max_running=max_running,
    )
