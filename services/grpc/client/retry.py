"""Whether and when to try a failed call again: a pure decision, with no clock and no randomness of its own.

gRPC's own retries are off (channel.py): two mechanisms would multiply. What must not live here: waiting, calling.
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from services.grpc.client.errors import GrpcCallError

ATTEMPTS_MAX = 10
"""More tries of one request do not help it, and hurt everyone else's."""
GROWTH = 2.0
"""Each wait is twice the one before: the load of clients that try again halves with every round."""
JITTER_RATIO = 0.2
"""Clients that failed together come back spread over this share of their wait, and never earlier than they were told
to (gRFC A6 spreads as far)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a call is tried, and how long to wait in between."""

    attempts: int = 3
    """The first included; 1 tries nothing again."""
    first_wait_s: float = 0.2
    """A gateway that restarts behind a balancer is passed over within a fraction of a second."""
    longest_wait_s: float = 5.0
    """Of waits that nobody asked for."""
    longest_asked_s: float = 60.0
    """Of those that the gateway asks for; a limit per minute is free again within one. After a longer one it is the
    caller who decides."""

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= ATTEMPTS_MAX:
            raise ValueError(f"attempts must be 1 to {ATTEMPTS_MAX} (given: {self.attempts})")


def wait_before_next_s(
    policy: RetryPolicy, error: GrpcCallError, *, made: int, left_s: float, draw: float
) -> float | None:
    """How long to wait before the next try; None where there must not, or cannot, be one.

    Args:
        policy: the caller's.
        error: how the last try failed.
        made: tries so far, 1 or more.
        left_s: until the call's deadline; a wait that reaches it is pointless.
        draw: randomness, 0 to 1.
    """
    asked_s = error.retry_after_s or 0.0
    if made >= policy.attempts or not _is_safe(error) or asked_s > policy.longest_asked_s:
        return None
    backoff_s = min(policy.first_wait_s * GROWTH ** (made - 1), policy.longest_wait_s)
    wait_s = max(backoff_s, asked_s) * (1 + JITTER_RATIO * draw)
    return wait_s if wait_s < left_s else None


def _is_safe(error: GrpcCallError) -> bool:
    """Whether nothing of an answer was lost, and the same request may fare better."""
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # A gateway that is full says when to come back; a message that is too large never fits.
        return error.retry_after_s is not None
    # A call that meets a gateway's GOAWAY on its way ends as CANCELLED; nobody cancelled it, and nobody has seen it.
    return error.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
