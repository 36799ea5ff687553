"""What a request needs of a context window."""

from __future__ import annotations

import pytest

from cluster.core.prompt import CountKind, PromptTokens
from cluster.core.request import (
    COMPLETIONS_DEFAULT_OUTPUT_TOKENS,
    ContextNeed,
    InferenceRequest,
    OutputPolicy,
    OverCap,
    RequestId,
    Route,
    context_need,
    output_need,
)

POLICY = OutputPolicy(default_tokens=1024, max_tokens=2048)


def need(
    route: Route = Route.CHAT,
    *,
    asked: int | None = None,
    cut: int | None = None,
    prompt: int = 100,
    policy: OutputPolicy = POLICY,
) -> ContextNeed | OverCap:
    request = InferenceRequest(
        request_id=RequestId("r"),
        route=route,
        model="m",
        body=b"",
        requested_output_tokens=asked,
        truncate_prompt_tokens=cut,
    )
    tokens = PromptTokens(tokens=prompt, kind=CountKind.EXACT)
    output = output_need(request, policy)
    if isinstance(output, OverCap):
        return output
    return context_need(request, prompt=tokens, output=output, largest_context_tokens=8192)


def test_a_named_output_is_a_demand() -> None:
    assert need(asked=7) == ContextNeed(prompt_tokens=100, output_tokens=7, is_explicit=True)


def test_a_silent_request_gets_the_operators_default() -> None:
    assert need() == ContextNeed(prompt_tokens=100, output_tokens=1024, is_explicit=False)


def test_completions_promise_sixteen() -> None:
    found = need(Route.COMPLETIONS)
    assert isinstance(found, ContextNeed)
    assert found.output_tokens == COMPLETIONS_DEFAULT_OUTPUT_TOKENS == 16


@pytest.mark.parametrize(("asked", "refused"), [(2048, False), (2049, True)])
def test_the_cap_is_exact(asked: int, refused: bool) -> None:
    assert isinstance(need(asked=asked), OverCap) is refused


def test_without_a_cap_nothing_is_over_it() -> None:
    assert isinstance(need(asked=10**9, policy=OutputPolicy(default_tokens=1)), ContextNeed)


@pytest.mark.parametrize("route", [Route.EMBEDDINGS, Route.RERANK, Route.TOKENIZE])
def test_routes_that_generate_nothing_need_no_output(route: Route) -> None:
    assert need(route, asked=50) == ContextNeed(prompt_tokens=100, output_tokens=0, is_explicit=True)


@pytest.mark.parametrize(("cut", "kept"), [(None, 9000), (50, 50), (-1, 8192 - 10), (20_000, 9000)])
def test_a_client_may_let_its_prompt_be_cut(cut: int | None, kept: int) -> None:
    found = need(asked=10, cut=cut, prompt=9000)
    assert isinstance(found, ContextNeed)
    assert found.prompt_tokens == kept


def test_the_upper_end_decides_what_fits_and_the_likely_length_weighs_work() -> None:
    estimate = PromptTokens(tokens=120, kind=CountKind.ABOUT, expected_tokens=100, low_tokens=90, high_tokens=120)
    for cut, fits, likely in ((None, 120, 100), (110, 110, 100), (50, 50, 50)):
        request = InferenceRequest(
            request_id=RequestId("r"), route=Route.CHAT, model="m", body=b"", truncate_prompt_tokens=cut
        )
        found = context_need(request, prompt=estimate, output=(1024, False), largest_context_tokens=8192)
        assert (found.prompt_tokens, found.expected_prompt_tokens, found.count) == (fits, likely, CountKind.ABOUT)
    assert ContextNeed(prompt_tokens=7, output_tokens=1, is_explicit=True).expected_prompt_tokens == 7
