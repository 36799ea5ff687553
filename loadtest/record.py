"""What became of each request of a load test, and a run as a file of them.

What must not live here: measuring (client/), sums and plots (report/).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One request. Times are seconds since the run's begin."""

    label: str
    tenant: str
    session: int
    turn: int
    due_s: float
    """When it should have been sent; every latency counts from here."""
    sent_s: float
    """When the client turned to it; connecting, where that was needed, came after."""
    first_token_s: float | None
    """When the first event with text was read, or an answer that is not a stream; None: no token came."""
    ended_s: float
    gaps_s: Sequence[float]
    """Between two events with tokens, in order; empty where the answer was not a stream or had one event."""
    status: int
    """HTTP's; 0 where no answer began. Of gRPC, the status that REST would have had."""
    error: str
    """Empty: a good answer. Else a kind: `refused`, `unavailable`, `broken`, `timeout`, `connection`, `client`."""
    code: str
    """The server's own word for it, for example `rate_limit_exceeded`; empty where it said none."""
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    """As the server counted; 0 where it did not tell."""
    pool: str
    replica: str
    planned_tokens: int = 0
    """About how many the prompt should have (`Turn.prompt_tokens`); 0: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A load test that has ended."""

    scenario: str
    arguments: Mapping[str, Any]
    """Everything it takes to run it again, the seed included."""
    api: str
    """`rest` or `grpc`."""
    begun: str
    """ISO 8601, UTC."""
    seconds: float
    """In which requests were due: answers may have come later."""
    warmup_s: float
    """Requests due before are in `records` and not in sums."""
    records: Sequence[Record]
    client: Mapping[str, float] = field(default_factory=dict)
    """What the client measured of itself, of several processes the worst: `lag_p99_s` of its event loops, `late_p99_s`
    of sending after the due time, `cpu_ratio` of a core, `processes`."""
    warnings: Sequence[str] = ()
    """Why the figures may say more about the client than about the server; empty: nothing points to it."""
    stopped: str = ""
    """Why it ended before its time; empty: it did not."""
    metrics: Sequence[Mapping[str, float]] = ()
    """The gateway's own, sampled under way: `at_s`, and sums of what the report plots."""
