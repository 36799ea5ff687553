"""One endpoint: what it reported, and its live row in the table.

What lives here: the facts, and how a report and our own requests since then make up its load. What must not: pools
and their order (index.py), choosing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.core.lease import PoolName, ReplicaId

if TYPE_CHECKING:
    from cluster.core.routing.index import PoolIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Something that can take a request, as it last reported: a replica's lease, or a static engine."""

    replica_id: ReplicaId
    pool: PoolName
    url: str
    accepts: bool
    """False while draining: it gets nothing new."""
    running: int = 0
    """Requests in the engine's batch, of every gateway."""
    waiting: int = 0
    """Requests queued in the engine, of every gateway."""
    capacity: int = 0
    """Requests it runs at once; 0: unknown, then it never counts as full."""
    queue_limit: int = 0
    """Requests it lets wait beyond `capacity` before it refuses."""
    kv_use_ratio: float = 0.0
    prefill_tokens: int = 0
    """Prompt tokens it has still to compute."""
    adapters: frozenset[str] = field(default_factory=frozenset)
    """LoRA adapters that are loaded."""
    revision: str = ""
    """What its replica calls itself, for canaries; empty where it has no name."""
    report: int = 0
    """Tells a new report from one that is read twice, where all figures agree: any number that changes from report to
    report."""


@dataclass(slots=True, kw_only=True)
class OwnWork:
    """What this gateway has at one endpoint now; it outlives the endpoint's lease."""

    in_flight: int = 0
    prefill_tokens: int = 0


class Member:
    """One endpoint's live row; only the table changes it.

    Several gateways share an endpoint, and a report counts everybody's requests. So its load is the report's count,
    plus what this gateway has there now, minus what it had there when the report was taken over; and never less than
    what this gateway has there now. A refusal as full counts as a report, until the next one or `believed_again`.
    """

    __slots__ = (
        "before_refusal",
        "endpoint",
        "index",
        "is_breaker_open",
        "is_suspect",
        "load",
        "own",
        "own_at_report",
        "place",
        "prefill_at_report_tokens",
        "prefill_tokens",
        "reported_load",
        "shelf",
        "shelf_place",
    )

    index: PoolIndex
    """Where it is kept; set by whoever keeps it."""

    def __init__(self, endpoint: Endpoint, own: OwnWork) -> None:
        self.own = own
        self.is_suspect = False
        self.is_breaker_open = False
        self.place = -1
        """Position in its pool's list of members."""
        self.shelf = -1
        """Which of its pool's shelves it lies on (index.py)."""
        self.shelf_place = -1
        self.report(endpoint)

    def report(self, endpoint: Endpoint) -> None:
        """Take over a new report."""
        self.endpoint = endpoint
        self.before_refusal: tuple[int, int] | None = None
        self.reported_load = endpoint.running + endpoint.waiting
        self.own_at_report = self.own.in_flight
        self.prefill_at_report_tokens = self.own.prefill_tokens
        self.recount()

    def refused(self) -> None:
        """It refused one of this gateway's requests as full; called while that one still counts."""
        if self.before_refusal is None:
            self.before_refusal = self.reported_load, self.own_at_report
        self.reported_load = max(self.endpoint.capacity + self.endpoint.queue_limit, self.own.in_flight - 1)
        self.own_at_report = max(self.own.in_flight - 1, 0)
        self.recount()

    def believed_again(self) -> None:
        """Its last report counts again, where it refused since."""
        if self.before_refusal is not None:
            self.reported_load, self.own_at_report = self.before_refusal
            self.before_refusal = None
            self.recount()

    def recount(self) -> None:
        """Work out `load` (requests) and `prefill_tokens` again."""
        own, endpoint = self.own, self.endpoint
        self.load = max(own.in_flight, self.reported_load + own.in_flight - self.own_at_report)
        self.prefill_tokens = max(
            own.prefill_tokens, endpoint.prefill_tokens + own.prefill_tokens - self.prefill_at_report_tokens
        )

    @property
    def has_room(self) -> bool:
        """Whether a new request would run at once, by count."""
        capacity = self.endpoint.capacity
        return capacity == 0 or self.load < capacity
