"""One streamed answer: its text, its tokens, and every way in which it is none."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from cluster.core import wire
from loadtest.prefix.client import Answer, BenchError, ask

USAGE = {"prompt_tokens": 300, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 256}}
FIRST = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
WORD = {"choices": [{"delta": {"content": "word"}}]}


def answered(*events: dict[str, Any] | str, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    lines = [event if isinstance(event, str) else f"data: {json.dumps(event)}" for event in events]
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status, text="\n\n".join(lines), headers=headers)

    with httpx.Client(transport=httpx.MockTransport(handle)) as http:
        answer = ask(
            http, "http://gateway", [{"role": "user", "content": "Hi"}], model="m", answer_tokens=2, headers={"a": "b"}
        )
    body = json.loads(seen[0].content)
    assert (body["max_tokens"], body["ignore_eos"], body["temperature"]) == (2, True, 0)
    assert seen[0].headers["a"] == "b"
    return answer


def test_an_answer_is_read() -> None:
    answer = answered(
        FIRST, WORD, ": a comment", WORD, {"choices": [], "usage": USAGE}, "data: [DONE]",
        headers={wire.HEADER_REPLICA: "r1", wire.HEADER_EXPLANATION: '{"choices": []}'},
    )  # fmt: skip
    assert answer.text == "wordword"
    assert (answer.prompt_tokens, answer.cached_tokens, answer.computed_tokens) == (300, 256, 44)
    assert answer.ttft_s >= 0
    assert answer.replica == "r1"
    assert answer.explanation == {"choices": []}


@pytest.mark.parametrize(
    "events",
    [
        (WORD, {"choices": [], "usage": USAGE}),
        (FIRST, {"choices": [], "usage": USAGE}, "data: [DONE]"),
        (WORD, "data: [DONE]"),
    ],
    ids=["no end", "no text", "no usage"],
)
def test_half_an_answer_is_none(events: tuple[dict[str, Any] | str, ...]) -> None:
    with pytest.raises(BenchError, match="ended early"):
        answered(*events)


def test_errors_are_told() -> None:
    with pytest.raises(BenchError, match="429"):
        answered("busy", status=429)
    with pytest.raises(BenchError, match=r"broke off.*gone"):
        answered(WORD, {"error": {"message": "gone"}})
