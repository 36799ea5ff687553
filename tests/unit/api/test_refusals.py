"""Outcomes as clients see them."""

from __future__ import annotations

import json

import pytest

from cluster.core.lease import PoolName
from cluster.core.prompt import CountKind
from cluster.core.request import ContextNeed, Route
from cluster.core.routing import TooLong
from services.api.refusals import from_outcome
from services.gateway.outcome import Failed
from services.gateway.upstream import FailureKind, UpstreamFailure
from services.rest.refusal import stream_error


def too_long(prompt: int, output: int, *, explicit: bool = True, kind: CountKind = CountKind.EXACT) -> str:
    need = ContextNeed(prompt_tokens=prompt, output_tokens=output, is_explicit=explicit, count=kind)
    outcome = TooLong(need=need, largest_context_tokens=32_768)
    return from_outcome(outcome, Route.CHAT, "max_tokens").message


def test_too_long_names_both_counts_the_limit_and_the_remedy() -> None:
    assert too_long(41_234, 1_024) == (
        "Your prompt has 41,234 tokens and asks for 1,024 of output: 42,258 in all, and the largest context of this "
        "model here is 32,768 tokens. Shorten the prompt to 31,744 tokens or fewer."
    )
    assert too_long(32_000, 1_024).endswith("Shorten the prompt, or set max_tokens to 768 or less.")
    assert too_long(32_768, 1_024, explicit=False) == (
        "Your prompt has 32,768 tokens, and the largest context of this model here is 32,768 tokens. Shorten the "
        "prompt to 32,767 tokens or fewer."
    )


def test_an_estimate_says_about() -> None:
    assert "has about 90,000 tokens and asks for 10 of output: about 90,010" in too_long(
        90_000, 10, kind=CountKind.ABOUT
    )


@pytest.mark.parametrize(
    ("kind", "status"), [(FailureKind.CONNECT, 503), (FailureKind.RESET, 502), (FailureKind.TIMEOUT, 504)]
)
def test_failures_have_their_status(kind: FailureKind, status: int) -> None:
    refusal = from_outcome(Failed(kind=kind, pool=PoolName("p"), attempts=1), Route.CHAT, "max_tokens")
    assert refusal.status == status
    assert (refusal.retry_after_s is not None) is (kind is not FailureKind.TIMEOUT)


@pytest.mark.parametrize("route", [Route.CHAT, Route.COMPLETIONS, Route.RESPONSES, Route.MESSAGES])
def test_every_stream_has_its_own_error_event(route: Route) -> None:
    event = stream_error(route, UpstreamFailure(kind=FailureKind.RESET, detail="x")).decode()
    assert event.endswith("\n\n")
    assert "[DONE]" not in event
    data = json.loads(event.split("data: ", 1)[1])
    assert "error" in data or data["type"] == "error"
