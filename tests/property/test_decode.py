"""Decoding any bytes ends in a request or in a refusal, never in an exception."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.core.prompt import Conversation, TokenIds
from cluster.core.request import InferenceRequest, RequestId, Route
from services.api.decode import decode
from services.api.refusals import Refusal
from services.gateway.estimate import read
from services.gateway.templates import ChatTemplate, TemplateError
from services.rest.refusal import body_of

ID = RequestId("req-1")
TEMPLATE = ChatTemplate(
    "{% for m in messages %}{{ m.role }}{{ m.content }}{{ m.tool_calls | tojson }}{% endfor %}{{ tools | tojson }}",
    tool_source=None,
    special_tokens={},
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "type", "text", "function", "name", "arguments", "tool_calls", "source"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.sampled_from([
        "model", "messages", "prompt", "input", "instructions", "system", "tools", "query", "documents", "tokens",
        "max_tokens", "max_completion_tokens", "max_output_tokens", "stream", "temperature", "n", "stop", "echo",
        "truncate_prompt_tokens", "chat_template_kwargs", "add_generation_prompt", "previous_response_id",
    ]),
    JSON,
    max_size=6,
)  # fmt: skip
LIKELY: dict[Route, dict[str, Any]] = {
    Route.CHAT: {"messages": [{"role": "user", "content": "a"}]},
    Route.COMPLETIONS: {"prompt": "a"},
    Route.RESPONSES: {"input": "a"},
    Route.MESSAGES: {"messages": [{"role": "user", "content": "a"}]},
    Route.EMBEDDINGS: {"input": "a"},
    Route.RERANK: {"query": "a", "documents": ["b"]},
    Route.TOKENIZE: {"prompt": "a"},
    Route.DETOKENIZE: {"tokens": [1]},
}


def check(route: Route, raw: bytes) -> InferenceRequest | Refusal:
    result = decode(route, raw, ID)
    with patch("services.api.decode.parse_quickly", return_value=None):
        careful = decode(route, raw, ID)
    if isinstance(careful, Refusal):
        assert result == careful
    else:
        # Integers beyond 64 bits may differ within a prompt.
        assert isinstance(result, InferenceRequest)
        assert replace(result, prompt=None) == replace(careful, prompt=None)
    if isinstance(result, Refusal):
        assert 400 <= result.status < 500
        json.loads(body_of(result, route, ID))
    else:
        assert result.body is raw
        assert result.requested_output_tokens is None or result.requested_output_tokens >= 0
        can_be_counted(result)
    return result


def can_be_counted(request: InferenceRequest) -> None:
    """Whatever decoding let through, counting copes with."""
    prompt = request.prompt
    if prompt is None or isinstance(prompt, TokenIds):
        return
    for reading in read(prompt) or ():
        assert reading.features() is not None
    if isinstance(prompt, Conversation):
        with contextlib.suppress(TemplateError):
            TEMPLATE.render(prompt)


@given(route=st.sampled_from(Route), raw=st.binary(max_size=200))
def test_any_bytes(route: Route, raw: bytes) -> None:
    assert isinstance(check(route, raw), Refusal) or raw.lstrip().startswith(b"{")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(route=st.sampled_from(Route), fields=FIELDS, use_likely=st.booleans())
def test_any_object(route: Route, fields: dict[str, Any], use_likely: bool) -> None:
    likely = {"model": "m", **LIKELY[route]} if use_likely else {}
    check(route, json.dumps({**likely, **fields}).encode())


@given(
    route=st.sampled_from(Route),
    extra=st.dictionaries(
        st.text(max_size=6).map(lambda key: "x-" + key),
        JSON.filter(lambda value: "NaN" not in json.dumps(value) and "Infinity" not in json.dumps(value)),
        max_size=3,
    ),
)
def test_unknown_fields_pass(route: Route, extra: dict[str, Any]) -> None:
    raw = json.dumps({"model": "m", **LIKELY[route], **extra}).encode()
    result = check(route, raw)
    if isinstance(result, Refusal):
        assert "surrogate" in result.message or "nested" in result.message or "digits" in result.message


@given(route=st.sampled_from(Route), cut=st.integers(0, 200))
def test_a_cut_body_is_refused(route: Route, cut: int) -> None:
    raw = json.dumps({"model": "m", **LIKELY[route]}).encode()
    if cut < len(raw):
        assert isinstance(check(route, raw[:cut]), Refusal)
