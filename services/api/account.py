"""What is known of one request when it ends.

What must not live here: telling anybody (books.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from cluster.core.lease import PoolName, ReplicaId
from cluster.core.outcome import ReplicaOutcome
from cluster.core.request import RequestId, Route
from cluster.core.tenant import Identity
from services.api.refusals import Refusal
from services.gateway.outcome import Served
from services.gateway.upstream import AnswerReader, UpstreamFailure
from services.tracing.recording import Recording


class Ending(StrEnum):
    """How a request ended; these are metric labels."""

    OK = "ok"
    REFUSED = "refused"
    """A 4xx of ours or of the engine."""
    UNAVAILABLE = "unavailable"
    """A 5xx, or 429: nobody could take it."""
    BROKEN = "broken"
    """The answer broke off under way."""
    CLIENT_GONE = "client_gone"
    EXPIRED = "expired"
    """Its deadline passed."""


class Api(StrEnum):
    """Which API a request came by."""

    REST = "rest"
    GRPC = "grpc"


class Source(Protocol):
    """An answer that has begun: an engine's, or one that several clients share."""

    @property
    def status(self) -> int:
        """HTTP's."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name."""
        ...

    def read(self, reader: AnswerReader) -> None:
        """Hand over what is here, and from now on every byte as it comes."""
        ...

    def pause(self) -> None:
        """Let it wait."""
        ...

    def resume(self) -> None:
        """Let it go on."""
        ...

    def close(self) -> None:
        """Read no further."""
        ...


class Answering(Protocol):
    """What a delivery delivers."""

    @property
    def answer(self) -> Source:
        """Its bytes."""
        ...

    @property
    def is_static(self) -> bool:
        """A foreign engine's: it tells no outcome beside its answer."""
        ...


class Delivery(Protocol):
    """An answer on its way to its client; each API has its own."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be sent."""
        ...

    @property
    def sent_bytes(self) -> int:
        """Of the answer's content."""
        ...

    @property
    def is_client_gone(self) -> bool:
        """Whether the client left before the end."""
        ...

    @property
    def broken(self) -> UpstreamFailure | None:
        """Why the answer broke off under way; None where it did not."""
        ...

    @property
    def outcome(self) -> ReplicaOutcome | None:
        """What the answer cost, as its engine told it; None where it did not."""
        ...

    def start(self) -> None:
        """Begin to send; the rest follows as it comes."""
        ...

    async def ended(self) -> None:
        """Wait until nothing more will be sent."""
        ...

    def cancel(self, failure: UpstreamFailure) -> None:
        """End the answer under way with an error; the engine is aborted."""
        ...


class Account:
    """One request's facts, filled in as they become known."""

    __slots__ = (
        "api",
        "attempts",
        "delivery",
        "ending",
        "expected_cached_tokens",
        "expects_redis",
        "first_byte_s",
        "identity",
        "is_expired",
        "is_shared",
        "limit_s",
        "model",
        "outcome",
        "pool",
        "prompt_tokens",
        "recording",
        "refusal_code",
        "replica",
        "request_id",
        "revision",
        "route",
        "sent_bytes",
        "served_model",
        "started_s",
        "status",
    )

    def __init__(self, request_id: RequestId, route: Route, started_s: float, api: Api) -> None:
        self.request_id = request_id
        self.route = route
        self.api = api
        self.started_s = started_s
        """When the request's last byte was here, on the monotonic clock."""
        self.limit_s = 0.0
        """From then to its deadline."""
        self.identity: Identity | None = None
        self.ending = Ending.CLIENT_GONE
        self.status = 0
        self.refusal_code = ""
        self.model = ""
        """As the client asked for it."""
        self.served_model = ""
        """As the configuration names it; empty until it was served."""
        self.pool: PoolName | None = None
        self.replica: ReplicaId | None = None
        self.revision = ""
        """The replica's; empty where it has none."""
        self.prompt_tokens: int | None = None
        """As the gateway counted or estimated it."""
        self.expected_cached_tokens = 0
        self.expects_redis = False
        """Whether some of those were expected to come from Redis."""
        self.outcome: ReplicaOutcome | None = None
        self.attempts = 0
        self.sent_bytes = 0
        self.first_byte_s: float | None = None
        self.is_expired = False
        self.is_shared = False
        """The answer is others' as well: what it cost is told once, and not here."""
        self.delivery: Delivery | None = None
        self.recording: Recording | None = None
        """For its spans; None where nobody traces."""

    @property
    def log_fields(self) -> dict[str, str]:
        """What every line about this request has."""
        fields = {"request_id": str(self.request_id)}
        return fields if self.recording is None else {**fields, "trace_id": self.recording.trace_id}

    def served(self, served: Served, now_s: float) -> None:
        """An endpoint answers."""
        self.first_byte_s = now_s - self.started_s
        self.status = served.answer.status
        self.pool = served.choice.endpoint.pool
        self.replica = served.choice.endpoint.replica_id
        self.revision = served.choice.endpoint.revision
        self.served_model = served.model
        self.prompt_tokens = served.prompt_tokens
        fetched_tokens = served.choice.fetched_tokens
        self.expected_cached_tokens = served.choice.resident_tokens + fetched_tokens
        self.expects_redis = fetched_tokens > 0
        self.attempts = served.attempts

    def repeated(self, status: int, now_s: float) -> None:
        """The answer is another request's: no pool works for this one."""
        self.first_byte_s = now_s - self.started_s
        self.status = status

    def went_on(self, served: Served) -> None:
        """The answer has ended: at whoever went on with it last, where it was cut."""
        self.pool = served.choice.endpoint.pool
        self.replica = served.choice.endpoint.replica_id
        self.revision = served.choice.endpoint.revision
        self.attempts = served.attempts

    def refused(self, refusal: Refusal) -> None:
        """The answer is an error of ours."""
        self.status = refusal.status
        self.refusal_code = refusal.code or ""
        self.ending = Ending.EXPIRED if self.is_expired else ending_of(refusal.status)

    def broke_off(self, refusal: Refusal) -> None:
        """The answer had begun and ended with an error of its engine's; what it cost still counts."""
        self.refusal_code = refusal.code or ""
        self.ending = ending_of(refusal.status)

    def delivered(self, delivery: Delivery) -> None:
        """The answer has ended, one way or another."""
        self.sent_bytes = delivery.sent_bytes
        self.outcome = delivery.outcome
        if delivery.broken is not None:
            self.ending = Ending.EXPIRED if self.is_expired else Ending.BROKEN
        elif delivery.is_client_gone or not delivery.is_over:
            self.ending = Ending.CLIENT_GONE
        else:
            self.ending = ending_of(self.status)


def ending_of(status: int) -> Ending:
    """How an answer with this status counts."""
    if status < 400:  # noqa: PLR2004 - HTTP's client errors begin here
        return Ending.OK
    return Ending.UNAVAILABLE if status == 429 or status >= 500 else Ending.REFUSED  # noqa: PLR2004 - HTTP statuses
