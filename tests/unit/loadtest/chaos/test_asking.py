"""What is noted of answers that are not what they should be."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from loadtest.chaos.answer import End
from loadtest.chaos.asking import Asker
from loadtest.chaos.kinds import KINDS

STREAM, WHOLE = KINDS[0], KINDS[1]


def asker_of(body: bytes) -> Asker:
    asker = Asker("http://gateway", "gateway:1")
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    asker._http = httpx.AsyncClient(base_url="http://gateway", transport=transport)
    return asker


@pytest.mark.parametrize("told", [[], {"choices": []}, {"choices": [{"message": {}}]}, {"choices": None}, "text"])
async def test_a_whole_answer_that_is_none_is_broken(told: Any) -> None:
    answer = await asker_of(json.dumps(told).encode()).ask(WHOLE)
    assert answer.end is End.BROKEN
    assert answer.detail


@pytest.mark.parametrize("event", ["[]", "{", '{"choices": null}', '{"choices": ["x"]}', '{"usage": {"x": 1}}'])
async def test_a_stream_with_an_event_that_is_none_is_broken(event: str) -> None:
    answer = await asker_of(f"data: {event}\n\ndata: [DONE]\n\n".encode()).ask(STREAM)
    assert answer.end is End.BROKEN
    assert answer.detail
