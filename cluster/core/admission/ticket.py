"""What waits in the queue, and what became of putting it there.

What must not live here: the order in which tickets are served.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.core.admission.deadline import Deadline
from cluster.core.lease import PoolName
from cluster.core.tenant import Priority, TenantName


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ticket:
    """One waiting request. Two tickets are never equal: each is its own key."""

    tenant: TenantName
    pools: tuple[PoolName, ...]
    """The pools that may serve it, the preferred one first; never empty."""
    cost_tokens: int
    """Expected work: prompt tokens left to compute plus the output budget."""
    prefill_tokens: int = 0
    """Of those, the prompt tokens."""
    arrived_s: float
    """When the request arrived, on the caller's monotonic clock."""
    weight: float = 1.0
    """The tenant's share against other tenants; over 0."""
    priority: Priority = Priority.NORMAL
    deadline: Deadline | None = None
    """On the same clock; None: there is always time."""
    is_back: bool = False
    """It had its turn before: its stream was cut, or the replica that it went to was full. It goes before all that had
    none, whatever their class, and nobody takes its place."""

    def __post_init__(self) -> None:
        if not self.pools or not self.weight > 0:
            raise ValueError("a ticket needs a pool and a weight over 0")

    @property
    def home(self) -> PoolName:
        """The pool in whose line it stands: the smallest that holds the request."""
        return self.pools[0]

    @property
    def work(self) -> float:
        """What serving it charges its tenant, in tokens by weight; even an empty request is one token of work."""
        return max(self.cost_tokens, 1) / self.weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The ticket waits. `displaced` had to leave the full queue for it, and is already out."""

    displaced: Ticket | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """The queue is full, and nobody in it has less right to a place."""
