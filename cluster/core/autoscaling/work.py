"""What a replica tells of its work: its lease carries it, and a pool's speed is measured from it (speed.py).

What must not live here: how steps are observed (cluster/engine), clocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cluster.core.autoscaling.speed import SpeedCounters
from cluster.core.lease import Lease, ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaWork:
    """One replica, since it began to serve."""

    counters: SpeedCounters
    kv_tokens: int = 0
    """Tokens whose KV cache it holds; 0: not known."""
    resident_tokens: int = 0
    """Tokens of prompts in its cache; 0: not known."""
    startup_s: float = 0.0
    """From its constructor until it served; 0: not known. The order came earlier, see startup.py."""

    def to_dict(self) -> dict[str, Any]:
        """For the lease."""
        return {
            "kv_tokens": self.kv_tokens,
            "resident_tokens": self.resident_tokens,
            "startup_s": self.startup_s,
            **asdict(self.counters),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> ReplicaWork | None:
        """What `to_dict` made, by this version or another; None where it says nothing that can be used."""
        if data is None:
            return None
        try:
            counted: dict[str, Any] = {
                each.name: (float if each.type == "float" else int)(data.get(each.name, 0))
                for each in fields(SpeedCounters)
            }
            kv_tokens, resident_tokens = int(data.get("kv_tokens", 0)), int(data.get("resident_tokens", 0))
            startup_s = float(data.get("startup_s", 0.0))
        except (TypeError, ValueError, OverflowError):
            return None
        told = (*counted.values(), kv_tokens, resident_tokens, startup_s)
        if not all(math.isfinite(value) and value >= 0 for value in told):
            return None
        return cls(
            counters=SpeedCounters(**counted), kv_tokens=kv_tokens, resident_tokens=resident_tokens, startup_s=startup_s
        )


def works_of(leases: Iterable[Lease]) -> dict[ReplicaId, ReplicaWork]:
    """The work of each replica that tells of it."""
    told = ((lease.replica_id, ReplicaWork.from_dict(lease.work)) for lease in leases)
    return {replica_id: work for replica_id, work in told if work is not None}


class WorkMeter:
    """Adds up an engine's steps.

    A step is busy with prefill when it computes at any prompt, with decode when any sequence gets a further token; a
    mixed step is both.
    """

    def __init__(self) -> None:
        self.kv_tokens = 0
        self.startup_s = 0.0
        self.uncomputed_tokens: Callable[[], int] = lambda: 0
        """The prompt tokens in the engine that have no first token yet, now."""
        self._since_s: float | None = None
        self._prefill_tokens = 0
        self._prefill_busy_s = 0.0
        self._prefill_token_s = 0.0
        self._decode_tokens = 0
        self._decode_busy_s = 0.0
        self._decode_sequence_s = 0.0
        self._decode_blocked_s = 0.0

    def arrived(self, now_s: float, *, is_alone: bool) -> None:
        """A request goes to the engine; `is_alone`: nothing else is there, so that the time before was no work."""
        if is_alone:
            self._since_s = now_s

    def stepped(
        self, now_s: float, *, prefilling: int, decoding: int, computed_tokens: int, prompt_tokens: int
    ) -> None:
        """A step has ended.

        Args:
            now_s: monotonic seconds.
            prefilling: sequences whose prompts it computed at.
            decoding: sequences' further tokens.
            computed_tokens: of the prompts that were completed with it, what was not cached.
            prompt_tokens: of those prompts, all.
        """
        step_s = 0.0 if self._since_s is None else max(now_s - self._since_s, 0.0)
        self._since_s = now_s
        if prefilling:
            self._prefill_tokens += computed_tokens
            self._prefill_busy_s += step_s
            self._prefill_token_s += step_s * (self.uncomputed_tokens() + prompt_tokens)
        if decoding:
            self._decode_tokens += decoding
            self._decode_busy_s += step_s
            self._decode_sequence_s += step_s * decoding
            self._decode_blocked_s += step_s if prefilling else 0.0

    def work(self, *, resident_tokens: int = 0) -> ReplicaWork:
        """The sums so far, with what is told of the cache."""
        counters = SpeedCounters(
            prefill_tokens=self._prefill_tokens,
            prefill_busy_s=self._prefill_busy_s,
            prefill_token_s=self._prefill_token_s,
            decode_tokens=self._decode_tokens,
            decode_busy_s=self._decode_busy_s,
            decode_sequence_s=self._decode_sequence_s,
            decode_blocked_s=self._decode_blocked_s,
        )
        return ReplicaWork(
            counters=counters,
            kv_tokens=self.kv_tokens,
            resident_tokens=resident_tokens,
            startup_s=self.startup_s,
        )
