"""The one place where a body is rewritten: it removes internals, fills gaps, and leaves the rest alone."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.core import wire
from cluster.core.request import Route

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from([
    "model", "max_tokens", "max_completion_tokens", "max_output_tokens", "temperature", "messages", "prompt",
    *sorted(wire.INTERNAL_BODY_FIELDS),
]) | st.text(max_size=8)  # fmt: skip
BODIES = st.dictionaries(KEYS, JSON, max_size=8)


@given(
    route=st.sampled_from(Route),
    body=BODIES,
    model=st.none() | st.text(min_size=1),
    output=st.none() | st.integers(1, 10**6),
    sampling=st.none() | st.fixed_dictionaries({"temperature": st.floats(0, 2)}),
)
def test_only_what_was_decided_changes(
    route: Route, body: dict[str, Any], model: str | None, output: int | None, sampling: dict[str, float] | None
) -> None:
    raw = json.dumps(body).encode()
    result = wire.apply_decision(route, raw, model=model, output_tokens=output, sampling=sampling)
    after = json.loads(result)
    assert not wire.INTERNAL_BODY_FIELDS & after.keys()
    decided = (
        wire.INTERNAL_BODY_FIELDS | {"model"} | ({route.output_field, *(sampling or {})} if route.generates else set())
    )
    assert {key: value for key, value in after.items() if key not in decided} == {
        key: value for key, value in body.items() if key not in decided
    }
    if model is not None:
        assert after["model"] == model
    asked = wire.requested_output_tokens(route, body)
    if route.generates:
        assert wire.requested_output_tokens(route, after) == (output if asked is None else asked)
    if sampling is not None and route.generates and body.get("temperature") is not None:
        assert after["temperature"] == body["temperature"]
    if after == body:
        assert result == raw or model is not None or output is not None or sampling is not None


@given(body=BODIES)
def test_untouched_bytes_stay_the_clients_own(body: dict[str, Any]) -> None:
    body = {key: value for key, value in body.items() if key not in wire.INTERNAL_BODY_FIELDS}
    raw = json.dumps(body, indent=3).encode()
    assert wire.apply_decision(Route.TOKENIZE, raw, model=None, output_tokens=5) is raw


def test_a_lone_surrogate_survives_as_an_escape() -> None:
    raw = b'{"model": "a", "user": "\\ud800"}'
    assert json.loads(wire.apply_decision(Route.CHAT, raw, model="b", output_tokens=None))["user"] == "\ud800"


def test_the_newer_of_chats_two_names_wins() -> None:
    assert wire.requested_output_tokens(Route.CHAT, {"max_tokens": 5, "max_completion_tokens": 7}) == 7
    assert wire.requested_output_tokens(Route.CHAT, {"max_tokens": 5, "max_completion_tokens": None}) == 5
    assert wire.requested_output_tokens(Route.CHAT, {"max_tokens": True}) is None
