"""How fast a pool's replicas are, from counters that each of them keeps.

What a replica with little to do does is no measure of what it can do: one short prompt at a time leaves most of a step
empty, and one sequence alone decodes few tokens a second. So prefill is measured where there was enough to compute, and
only otherwise as a floor; and of decoding both the time between tokens and how it grows with the batch are kept.
What must not live here: reading counters, clocks.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass

from cluster.core.autoscaling.demand import PoolSpeed
from cluster.core.lease import ReplicaId

WINDOW_BUSY_S = 1.0
"""Counters are compared once so much busy time has passed: shorter windows would measure the reports' rhythm."""
LOADED_TOKENS = 2_048
"""Prompt tokens that lie before a replica while it computes any: from so many on, its steps are full. A GPU's products
are limited by computing, not by memory, from some 300 tokens a step on; vLLM's steps take 2,048 to 8,192."""
MEMORY_BUSY_S = 120.0
"""Busy time after which a measurement counts for 1/e: speeds follow a change in prompt lengths within minutes, and a
quiet hour, with little busy time in it, forgets little."""
KNOWN_BUSY_S = 1.0
"""What is left of the loaded measurements must weigh so much busy time to be believed."""
BATCH_SPREAD_MIN_RATIO = 0.1
"""Batches must have differed by this part of their mean (standard deviation) to tell how time grows with them."""
CLEAR_MIN_RATIO = 0.3
"""A step's time is what is between tokens less what prompts took of it; where they took nearly all, little is left to
measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedCounters:
    """What one replica has done since it began, all of it added up as it happens, not when an answer ends."""

    prefill_tokens: int = 0
    """Prompt tokens that were computed, cached ones left out; added when a prompt's first token comes at the latest."""
    prefill_busy_s: float = 0.0
    """Time in which at least one prompt was scheduled and had no first token yet."""
    prefill_token_s: float = 0.0
    """The time integral of the prompt tokens still to compute (`Lease.prefill_tokens`)."""
    decode_tokens: int = 0
    """Output tokens, each answer's first one left out: it belongs to prefill."""
    decode_busy_s: float = 0.0
    """Time in which at least one sequence was between its first token and its last."""
    decode_sequence_s: float = 0.0
    """The time integral of the number of such sequences."""
    decode_blocked_s: float = 0.0
    """The part of `decode_busy_s` in which a prompt was computed as well."""


@dataclass(slots=True)
class _Prefill:
    """Decaying sums."""

    tokens: float = 0.0
    busy_s: float = 0.0

    def add(self, tokens: float, busy_s: float) -> None:
        self.tokens += tokens
        self.busy_s += busy_s

    def fade(self, busy_s: float) -> None:
        kept = _kept(busy_s)
        self.tokens *= kept
        self.busy_s *= kept

    @property
    def per_s(self) -> float:
        return self.tokens / self.busy_s if self.busy_s > 0 else 0.0


@dataclass(slots=True)
class _Decode:
    """Decaying sums of windows, weighed by the time without prompts: batch, its square, time of a step, product."""

    busy_s: float = 0.0
    batch: float = 0.0
    batch_squared: float = 0.0
    step_s: float = 0.0
    product: float = 0.0

    def add(self, busy_s: float, batch: float, step_s: float) -> None:
        kept = _kept(busy_s)
        self.busy_s = self.busy_s * kept + busy_s
        self.batch = self.batch * kept + busy_s * batch
        self.batch_squared = self.batch_squared * kept + busy_s * batch * batch
        self.step_s = self.step_s * kept + busy_s * step_s
        self.product = self.product * kept + busy_s * batch * step_s

    def line(self) -> tuple[float, float, float | None]:
        """Mean batch, mean time of its step, and the time alone by least squares, where batches differed."""
        batch, step_s = self.batch / self.busy_s, self.step_s / self.busy_s
        variance = self.batch_squared / self.busy_s - batch * batch
        if batch <= 1 or variance < (BATCH_SPREAD_MIN_RATIO * batch) ** 2:
            return batch, step_s, None
        slope = (self.product / self.busy_s - batch * step_s) / variance
        # Time cannot fall with the batch, nor be less than nothing without one.
        slope = min(max(slope, 0.0), step_s / batch)
        return batch, step_s, step_s - slope * (batch - 1)


class SpeedMeter:
    """What one replica of a pool does, over all of them; replicas that are gone keep counting until it fades."""

    def __init__(self) -> None:
        self._last: dict[ReplicaId, SpeedCounters] = {}
        self._loaded = _Prefill()
        self._light = _Prefill()
        self._decode = _Decode()

    def observe(self, replica_id: ReplicaId, counters: SpeedCounters) -> None:
        """Take in what a replica counts now; the same counters told again change nothing, smaller ones begin anew."""
        last = self._last.get(replica_id)
        if last is None or any(now < before for now, before in zip(astuple(counters), astuple(last), strict=True)):
            self._last[replica_id] = counters
            return
        prefill, decode = last, last
        if counters.prefill_busy_s - last.prefill_busy_s >= WINDOW_BUSY_S:
            self._prefilled(last, counters)
            prefill = counters
        if counters.decode_busy_s - last.decode_busy_s >= WINDOW_BUSY_S:
            self._decoded(last, counters)
            decode = counters
        self._last[replica_id] = SpeedCounters(
            prefill_tokens=prefill.prefill_tokens,
            prefill_busy_s=prefill.prefill_busy_s,
            prefill_token_s=prefill.prefill_token_s,
            decode_tokens=decode.decode_tokens,
            decode_busy_s=decode.decode_busy_s,
            decode_sequence_s=decode.decode_sequence_s,
            decode_blocked_s=decode.decode_blocked_s,
        )

    def forget(self, replica_id: ReplicaId) -> None:
        """A replica is gone."""
        self._last.pop(replica_id, None)

    def speed(self, *, kv_tokens: int = 0, max_running: int = 0) -> PoolSpeed | None:
        """What is known; None before anything was measured.

        Args:
            kv_tokens: tokens whose KV cache a replica holds; 0: not known.
            max_running: sequences it runs at once; 0: not known.
        """
        if self._loaded.busy_s + self._light.busy_s + self._decode.busy_s <= 0:
            return None
        is_known = self._loaded.busy_s >= KNOWN_BUSY_S
        # What was reached with little to do can be reached.
        prefill = max(self._loaded.per_s if is_known else 0.0, self._light.per_s)
        batch, step_s, alone_s = self._decode.line() if self._decode.busy_s > 0 else (0.0, 0.0, None)
        return PoolSpeed(
            prefill_tokens_per_s=prefill,
            decode_tokens_per_s=batch / step_s if step_s > 0 else 0.0,
            decode_sequences=batch,
            kv_tokens=kv_tokens,
            max_running=max_running,
            prefill_is_floor=not is_known,
            decode_alone_s=alone_s,
        )

    def _prefilled(self, before: SpeedCounters, now: SpeedCounters) -> None:
        busy_s = now.prefill_busy_s - before.prefill_busy_s
        tokens = now.prefill_tokens - before.prefill_tokens
        is_loaded = (now.prefill_token_s - before.prefill_token_s) / busy_s >= LOADED_TOKENS
        self._light.fade(busy_s)
        if is_loaded:
            self._loaded.fade(busy_s)
            self._loaded.add(tokens, busy_s)
        else:
            self._light.add(tokens, busy_s)

    def _decoded(self, before: SpeedCounters, now: SpeedCounters) -> None:
        busy_s = now.decode_busy_s - before.decode_busy_s
        tokens = now.decode_tokens - before.decode_tokens
        sequence_s = now.decode_sequence_s - before.decode_sequence_s
        clear_s = max(busy_s - (now.decode_blocked_s - before.decode_blocked_s), 0.0)
        if tokens > 0 and sequence_s > 0 and clear_s >= CLEAR_MIN_RATIO * busy_s:
            self._decode.add(clear_s, sequence_s / busy_s, sequence_s / tokens * clear_s / busy_s)


def _kept(busy_s: float) -> float:
    return math.exp(-busy_s / MEMORY_BUSY_S)
