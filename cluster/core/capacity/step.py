"""How long one engine step takes, as a sum of what it does: the replica's speed, for planning and simulation.

A step computes some prompt tokens (chunked prefill) and one token of each sequence that decodes. Coefficients come from
a roofline (cluster/planner) or from measurements (`longreach plan calibrate`). What must not live here: either of them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Seconds by what a step does; every number is of a whole replica, all its ranks together."""

    base_s: float
    """Of any step: scheduling, kernel launches."""
    weights_s: float
    """To read the weights once: what a step takes at least, however few tokens it computes."""
    token_s: float
    """To compute one token's matrix products, prompt or output."""
    attention_s: float
    """To compute attention of one prompt token to one token before it."""
    context_token_s: float
    """To read the KV cache of one token of context for a sequence that decodes."""
    sequence_s: float = 0.0
    """Of each sequence that decodes: sampling, making text of its token, its event's way out."""
    request_s: float = 0.0
    """Of each request whose prompt it begins: reading and tokenizing it, as far as that holds up the engine. Both this
    and the one before are measured only: a roofline knows nothing of them."""

    def step_s(
        self, *, prefill_tokens: int, attended_tokens: int, decoding: int, context_tokens: int, begun: int = 0
    ) -> float:
        """Seconds of one step.

        Args:
            prefill_tokens: prompt tokens it computes.
            attended_tokens: the sum over those of the tokens each attends to: `prefill_pairs`.
            decoding: sequences that get one output token each.
            context_tokens: tokens of context that those have together.
            begun: requests of whose prompts it computes the first tokens.
        """
        linear_s = max(self.weights_s, (prefill_tokens + decoding) * self.token_s)
        cache_s = attended_tokens * self.attention_s + context_tokens * self.context_token_s
        return self.base_s + linear_s + cache_s + decoding * self.sequence_s + begun * self.request_s


def prefill_pairs(begin_tokens: int, end_tokens: int) -> int:
    """Pairs of a prompt's tokens from `begin_tokens` to `end_tokens` with all before and themselves.

    Arithmetic: the sum of i from begin + 1 to end.
    """
    return (end_tokens * (end_tokens + 1) - begin_tokens * (begin_tokens + 1)) // 2
