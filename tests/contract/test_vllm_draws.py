"""Where vLLM draws the ids in streams of /v1/responses; a real engine is in test_resume_engine.py."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed in this environment")

from cluster.engine.call import CURRENT_CALL, Call
from cluster.engine.resume.drawing import CHOSEN, DRAWERS, RANDOM, derive_ids
from cluster.engine.resume.draws import Draws

NAMES = [
    *(f"vllm.entrypoints.openai.responses.{name}" for name in ("protocol", "serving", "streaming_events", "utils")),
    "vllm.renderers.chat_utils", "vllm.parser.mistral", "vllm.tool_parsers.xlam_tool_parser",
]  # fmt: skip
ENGINES_OWN = "vllm.v1.engine.input_processor"
KEY = b"k" * 16


@pytest.fixture
def derived() -> Iterator[list[str]]:
    """The seam in use, and taken out again."""
    for name in (*NAMES, ENGINES_OWN):
        importlib.import_module(name)
    before = [
        (module, attribute, getattr(module, attribute))
        for name, module in list(sys.modules.items())
        for attribute in (RANDOM, CHOSEN)
        if name.startswith(DRAWERS) and hasattr(module, attribute)
    ]
    try:
        yield derive_ids()
    finally:
        for module, attribute, own in before:
            setattr(module, attribute, own)


def drawn() -> list[str]:
    """One id of each kind."""
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
    from vllm.entrypoints.openai.responses.streaming_events import (
        SimpleStreamingState,
        emit_simple_content_open,
        emit_simple_reasoning_open,
        emit_simple_tool_call_open,
    )
    from vllm.parser.mistral import MistralToolCall

    state = SimpleStreamingState()
    response = ResponsesRequest(input="hi").request_id
    text, reasoning = emit_simple_content_open(state)[0].item.id, emit_simple_reasoning_open(state)[0].item.id
    call = emit_simple_tool_call_open(state, "look_up", 0)[0].item
    return [response, text, reasoning, call.id, call.call_id, MistralToolCall.generate_random_id()]


def test_they_follow_from_what_the_gateway_drew(derived: list[str]) -> None:
    assert set(NAMES) <= set(derived)
    told = []
    for key in (KEY, KEY, b"other" * 4):
        token = CURRENT_CALL.set(Call(draws=Draws(key)))
        try:
            told.append(drawn())
        finally:
            CURRENT_CALL.reset(token)
    assert told[0] == told[1]
    assert not set(told[0]) & set(told[2])
    assert [one.split("_")[0] for one in told[0][:4]] == ["resp", "msg", "rs", "fc"]


@pytest.mark.parametrize("call", [None, Call()])
def test_all_others_stay_random(derived: list[str], call: Call | None) -> None:
    assert derived
    token = CURRENT_CALL.set(call)
    try:
        one, other = drawn(), drawn()
    finally:
        CURRENT_CALL.reset(token)
    assert not set(one) & set(other)


def test_the_engines_own_ids_stay_random(derived: list[str]) -> None:
    """Two requests that a client gives one id would meet in the engine otherwise."""
    module = importlib.import_module(ENGINES_OWN)
    assert ENGINES_OWN not in derived
    token = CURRENT_CALL.set(Call(draws=Draws(KEY)))
    try:
        assert getattr(module, RANDOM)() != Draws(KEY).digits()
    finally:
        CURRENT_CALL.reset(token)
