"""What one replica did, added up as it happens.

What must not live here: the replica, sums over pools (fleet.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.autoscaling import SpeedCounters


@dataclass(slots=True, kw_only=True)
class Tally:
    """Since it began to serve."""

    steps: int = 0
    busy_s: float = 0.0
    prefill_s: float = 0.0
    """Time of steps that compute prompts."""
    prefill_token_s: float = 0.0
    """The time integral of the prompt tokens of those that wait for their first token."""
    decode_s: float = 0.0
    """Time of steps in which somebody decodes."""
    decode_sequence_s: float = 0.0
    """The same, times how many."""
    decode_blocked_s: float = 0.0
    """Of those, time of steps that compute prompts as well."""
    prefilled_tokens: int = 0
    decoded_tokens: int = 0
    """Output tokens."""
    first_tokens: int = 0
    """Those of them that prefill brought."""
    preemptions: int = 0

    def counters(self) -> SpeedCounters:
        """As the autoscaler's meter reads a replica."""
        return SpeedCounters(
            prefill_tokens=self.prefilled_tokens,
            prefill_busy_s=self.prefill_s,
            prefill_token_s=self.prefill_token_s,
            decode_tokens=self.decoded_tokens - self.first_tokens,
            decode_busy_s=self.decode_s,
            decode_sequence_s=self.decode_sequence_s,
            decode_blocked_s=self.decode_blocked_s,
        )
