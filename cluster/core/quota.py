"""A tenant's limits on requests and tokens: the arithmetic, with the time passed in.

The rule is GCRA, the generic cell rate algorithm in its virtual scheduling form (ITU-T I.371, annex A; ATM Forum
Traffic Management 4.1, section 4.4.2). One number holds a limit's whole state: the *theoretical arrival time*, when
all that was admitted so far will have been earned. What lies between now and then is the backlog. A request is
admitted while its own cost fits into the burst behind the backlog, and then adds its cost.

A backlog is time, so it means the same for the whole limit and for a gateway's share of it.
What must not live here: Redis (cluster/state/quotas.py, whose script computes the same), clocks, tenants' names.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cluster.core.tenant import Tenant

MINUTE_US = 60_000_000
BURST_US = MINUTE_US
"""A tenant may use a whole minute's limit at once, as the name "per minute" lets people expect. Any stretch of time
then holds at most the limit for its length plus one burst."""
COST_US_MAX = 24 * 60 * MINUTE_US
"""Most that one request or one correction counts: what the limit allows in a day, so that one oversized prompt never
locks a tenant out for longer. It also keeps every sum below 2**53, up to which Lua's numbers are exact integers."""
_US = 1_000_000


class LimitKind(StrEnum):
    """Which limit refused."""

    REQUESTS = "requests"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """The request may go on. Handed back when it ends, with the tokens it really took."""

    tokens: int
    """Charged at admission: the expected prompt plus the requested output."""
    is_local: bool = False
    """Decided without the shared count, by this gateway's share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Over a limit; nothing was charged."""

    retry_after_s: float
    """From now until the same request would be admitted, if nothing else is."""
    limit: LimitKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one request takes of both limits, in microseconds of their rates; 0 where there is no limit."""

    requests_us: int
    tokens_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """The state of both limits: theoretical arrival times on the caller's clock, in microseconds."""

    requests_us: int = 0
    tokens_us: int = 0


def is_limited(tenant: Tenant) -> bool:
    """Whether there is anything to count for this tenant."""
    return tenant.requests_per_minute is not None or tenant.tokens_per_minute is not None


def cost_of(tenant: Tenant, tokens: int, *, sharers: int = 1) -> Cost:
    """What a request of `tokens` costs `tenant`, rounded up to a microsecond.

    Args:
        tenant: whose limits count.
        tokens: prompt and output together.
        sharers: gateways that divide the limits among them, when each counts for itself.
    """
    return Cost(
        requests_us=_cost_us(1, tenant.requests_per_minute, sharers),
        tokens_us=_cost_us(tokens, tenant.tokens_per_minute, sharers),
    )


def correction_us(tenant: Tenant, charged_tokens: int, actual_tokens: int, *, sharers: int = 1) -> int:
    """What is still to be charged for tokens, below 0 to be given back, in microseconds of the limit."""
    charged_us = _cost_us(charged_tokens, tenant.tokens_per_minute, sharers)
    return _cost_us(actual_tokens, tenant.tokens_per_minute, sharers) - charged_us


def wait_us(arrival_us: int, cost_us: int, now_us: int) -> int:
    """How long until a cost fits behind the backlog; 0: it does now.

    A cost above the whole burst, such as one very long prompt, is admitted once there is no backlog at all. It is
    charged in full, so the long-run rate holds for it too.
    """
    backlog_us = max(0, arrival_us - now_us)
    return max(0, backlog_us + min(cost_us, BURST_US) - BURST_US) if cost_us else 0


def take(meter: Meter, cost: Cost, now_us: int) -> Meter | Refused:
    """Charge both limits, or neither: the meter after it, or which limit says no."""
    requests_wait_us = wait_us(meter.requests_us, cost.requests_us, now_us)
    tokens_wait_us = wait_us(meter.tokens_us, cost.tokens_us, now_us)
    if requests_wait_us or tokens_wait_us:
        return refused(requests_wait_us, tokens_wait_us)
    return Meter(
        requests_us=max(meter.requests_us, now_us) + cost.requests_us,
        tokens_us=max(meter.tokens_us, now_us) + cost.tokens_us,
    )


def refused(requests_wait_us: int, tokens_wait_us: int) -> Refused:
    """The refusal for two waits; the longer one names the limit."""
    if requests_wait_us >= tokens_wait_us:
        return Refused(retry_after_s=requests_wait_us / _US, limit=LimitKind.REQUESTS)
    return Refused(retry_after_s=tokens_wait_us / _US, limit=LimitKind.TOKENS)


def settle(meter: Meter, tokens_us: int, now_us: int) -> Meter:
    """Correct the charge for tokens. What is given back never earns more than one burst."""
    return Meter(requests_us=meter.requests_us, tokens_us=max(now_us, max(meter.tokens_us, now_us) + tokens_us))


def _cost_us(amount: int, per_minute: int | None, sharers: int) -> int:
    if per_minute is None:
        return 0
    return min(COST_US_MAX, -(-amount * sharers * MINUTE_US // per_minute))
