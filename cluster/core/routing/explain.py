"""A decision in full, for people and for the explain header, as plain JSON data.

Addresses of endpoints are left out: clients may read this. What must not live here: anything a decision needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cluster.core.request import ContextNeed
from cluster.core.routing.decision import Choice, Decision, NoEndpoint, Rejected, Saturated, TooLong
from cluster.core.routing.endpoint import Endpoint
from cluster.core.routing.query import Split

SCORE_DIGITS = 3


def explain(outcome: Decision | TooLong | NoEndpoint | Saturated) -> dict[str, Any]:
    """The outcome, every choice with its scores and reason, every rejected endpoint with the filter that did it.

    Keys: `outcome` ("decision", "too-long", "no-endpoint", "saturated"), then what that outcome holds.
    """
    match outcome:
        case Decision():
            return {
                "outcome": "decision",
                "need": _need(outcome.first.case.query.need),
                "home": outcome.first.case.home.value,
                **_draws(outcome.first.case.split),
                "choices": [_choice(choice) for choice in outcome.choices],
                "rejected": _rejected(outcome.rejected),
            }
        case TooLong():
            return {
                "outcome": "too-long",
                "need": _need(outcome.need),
                "largest_context_tokens": outcome.largest_context_tokens,
            }
        case NoEndpoint():
            return {
                "outcome": "no-endpoint",
                "pools": list(outcome.pools),
                "rejected": _rejected(outcome.rejected),
            }
        case Saturated():
            return {"outcome": "saturated", "pools": list(outcome.pools), "rejected": _rejected(outcome.rejected)}


def _need(need: ContextNeed) -> dict[str, Any]:
    return {
        "prompt_tokens": need.prompt_tokens,
        "count": need.count.value,
        "output_tokens": need.output_tokens,
        "output_is_explicit": need.is_explicit,
    }


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "pool": choice.endpoint.pool,
        "replica": choice.endpoint.replica_id,
        **_revision(choice.endpoint),
        "tier": choice.tier.name.lower(),
        "output_tokens": choice.output_tokens,
        "resident_tokens": choice.resident_tokens,
        "fetched_tokens": choice.fetched_tokens,
        "score": round(choice.score, SCORE_DIGITS),
        "scores": {name: round(score, SCORE_DIGITS) for name, score in choice.scores.items()},
        "reason": choice.reason,
    }


def _revision(endpoint: Endpoint) -> dict[str, str]:
    return {"revision": endpoint.revision} if endpoint.revision else {}


def _draws(split: Split | None) -> dict[str, Any]:
    """Which revision each pool drew for the request, and which it got; nothing where revisions share no pool."""
    if split is None:
        return {}
    return {"revisions": {name: draw._asdict() for name, draw in split.draws.items()}}


def _rejected(rejected: Sequence[Rejected]) -> list[dict[str, str]]:
    return [
        {
            "pool": one.endpoint.pool,
            "replica": one.endpoint.replica_id,
            **_revision(one.endpoint),
            "filter": one.by.value,
            "reason": one.by.words,
        }
        for one in rejected
    ]
