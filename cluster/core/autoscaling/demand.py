"""What a pool has to do, and what it does it with, at one moment: the policy's only input.

Replicas that drain count nowhere: they take nothing new and end what they have.

What must not live here: reading leases, asking gateways, clocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.lease import PoolName


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """What has come for a pool since counting began, over all gateways; only ever more.

    A request counts when it comes, also where it is held: counted at its end, an overloaded pool would seem to be asked
    for no more than it can do. Less than before means that counting began again, and that interval is passed over.
    """

    requests: int = 0
    prefill_tokens: int = 0
    """Prompt tokens, without those that were cached where they went."""
    answers: int = 0
    """Requests that have ended."""
    output_tokens: int = 0
    """Tokens that those were answered with."""
    cached_tokens: int = 0
    """Prompt tokens that were cached where they went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpeed:
    """What one replica of the pool does, measured (speed.py)."""

    prefill_tokens_per_s: float
    """Prompt tokens, while it computes any."""
    decode_tokens_per_s: float
    """Output tokens of all sequences together, at the batch it had, in time that no prompt was computed in."""
    decode_sequences: float
    """That batch."""
    kv_tokens: int
    """Tokens whose KV cache it holds; 0: not known."""
    max_running: int
    """Sequences it runs at once; 0: not known."""
    prefill_is_floor: bool = False
    """It never had much to compute at once: it does this at least, and with more to do more."""
    decode_alone_s: float | None = None
    """A step of one sequence alone; None: batches differed too little to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDemand:
    """One pool at one moment."""

    pool: PoolName
    now_s: float
    """Monotonic seconds; only differences count."""
    ready: int
    """Replicas that take requests."""
    starting: int = 0
    """Replicas that are on their way."""
    running: int = 0
    """Sequences in the engines' batches."""
    waiting: int = 0
    """Requests queued in the engines."""
    held: int = 0
    """Requests that wait at gateways, also for a pool without replicas."""
    oldest_wait_s: float = 0.0
    """How long the oldest of those, held or queued, has waited."""
    prefill_tokens: int = 0
    """Prompt tokens still to compute, of requests in engines and at gateways, without what is cached."""
    resident_tokens: int = 0
    """Tokens of prompts that one replica holds in its cache, the replicas' mean: what would be lost; 0: not known."""
    kv_use_ratio: float = 0.0
    """KV cache in use, the replicas' mean."""
    arrivals: Arrivals = Arrivals()
    speed: PoolSpeed | None = None
    """None: no replica of the pool has done anything yet."""
    startup_s: float | None = None
    """From the order of a replica to its first request, as measured; None: not yet."""
