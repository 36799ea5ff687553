"""The seam between the simulated cluster and whoever decides where requests go.

The production router (production.py) and every baseline is a `Router`; the cluster (world.py) is its `Desk`. Replicas
and requests are numbers. What must not live here: any policy.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from cluster.core.autoscaling import Arrivals
from cluster.core.lease import PoolName
from cluster.simulator.outcome import Fate
from cluster.simulator.trace import TraceRequest


class Report(NamedTuple):
    """What a replica says of itself every `LEASE_RENEW_S`, as its lease and its residency updates would."""

    replica: int
    pool: PoolName
    running: int
    waiting: int
    kv_use_ratio: float
    prefill_tokens: int
    """Prompt tokens of its requests that have no first token yet, still to compute."""
    adds: Sequence[tuple[int, int]] = ()
    """Blocks that became resident since the last report: key, and prompt tokens up to the block's end."""
    removes: Sequence[int] = ()
    """Keys of blocks that were evicted since."""


class Held(NamedTuple):
    """What waits at the gateway for one pool, and what has come for it."""

    requests: int = 0
    oldest_s: float = 0.0
    """How long the oldest has waited."""
    prefill_tokens: int = 0
    arrivals: Arrivals | None = None
    """What has come for the pool so far, held or sent; None: what was sent to its replicas."""


class Desk(Protocol):
    """What a router can see and do."""

    @property
    def now_s(self) -> float:
        """Simulated time."""
        ...

    @property
    def rng(self) -> random.Random:
        """Seeded by the run."""
        ...

    @property
    def block_tokens(self) -> int:
        """Tokens of a prompt's block (`Trace.block_tokens`)."""
        ...

    def request(self, number: int) -> TraceRequest:
        """What was asked."""
        ...

    def keys(self, number: int) -> Sequence[int]:
        """Its prompt's whole blocks as chained 64-bit keys: equal keys are equal prefixes up to the block's end."""
        ...

    def send(self, number: int, replica: int, *, priority: int = 0) -> bool:
        """Give a request to a replica; False: its queue is full (`max_queued`), and nothing happened.

        Args:
            number: an arrived request that is nowhere.
            replica: one that joined and did not leave.
            priority: the engine's waiting line is ordered by this, lower first, then by arrival; so is preemption.
        """
        ...

    def refuse(self, number: int, fate: Fate) -> None:
        """End a request that is nowhere."""
        ...

    def call_at(self, at_s: float, callback: Callable[[], None]) -> None:
        """Have something done at a time, now or later."""
        ...


class Router(Protocol):
    """Decides. Each method is called when the thing happens; `send` and `refuse` may be called from any of them."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def open(self, desk: Desk) -> None:
        """The run begins; before anything else."""
        ...

    def joined(self, replica: int, pool: PoolName) -> None:
        """A replica takes requests from now on."""
        ...

    def left(self, replica: int) -> None:
        """It takes none any more: it is dead, or finishes what it has."""
        ...

    def arrived(self, number: int) -> None:
        """A request is here: send it, refuse it, or keep it and do so later."""
        ...

    def answered(self, number: int, replica: int) -> None:
        """Its first token is here."""
        ...

    def ended(self, number: int, replica: int) -> None:
        """Its answer is complete, or was lost with its replica after the first token."""
        ...

    def failed(self, number: int, replica: int) -> None:
        """Its replica died before its first token: it is nowhere again, so send or refuse it."""
        ...

    def reported(self, report: Report) -> None:
        """A replica reported."""
        ...

    def held(self, pool: PoolName) -> Held:
        """What waits here for a pool, for the autoscaler."""
        ...
