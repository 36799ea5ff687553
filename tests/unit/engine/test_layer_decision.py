"""What the gateway decides reaches vLLM; what a client sets in its place does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.engine.decision import Decision, read_decision
from tests.unit.engine.layer_harness import Echo, ask, gate

GENERATING = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"]
SALTED = [*GENERATING, "/v1/embeddings", "/rerank", "/v1/rerank"]


@pytest.mark.parametrize("path", GENERATING)
@pytest.mark.parametrize("value", [b"-5", b"0", b"100"])
async def test_the_priority_reaches_the_scheduler(path: str, value: bytes) -> None:
    app = Echo()
    headers = [(b"x-longreach-priority", value), (b"X-Vllm-Priority", b"-9")]
    await ask(app, gate(), path=path, headers=headers, body={"max_tokens": 1, "priority": -1000})
    body = json.loads(app.body)
    if path == "/v1/messages":
        assert (app.headers[b"x-vllm-priority"], "priority" in body) == (value, False)
    else:
        assert (body["priority"], b"x-vllm-priority" in app.headers) == (int(value), False)


@pytest.mark.parametrize("path", [*SALTED, "/tokenize"])
@pytest.mark.parametrize("said", [[], [(b"x-longreach-priority", b"urgent")], [(b"x-longreach-priority", b"1e3")]])
async def test_a_clients_own_priority_never_does(path: str, said: list[tuple[bytes, bytes]]) -> None:
    app = Echo()
    steering = [(b"X-Vllm-Priority", b"-9"), (b"X-data-parallel-rank", b"1")]
    headers = [*said, *((key.lower(), value) for key, value in steering), *steering]
    await ask(app, gate(), path=path, headers=headers, body={"priority": -1000, "seed": 1})
    assert json.loads(app.body) == {"seed": 1}
    assert app.headers.keys() == {b"content-length"}


@pytest.mark.parametrize("path", [*SALTED, "/tokenize", "/detokenize"])
async def test_the_salt_is_the_gateways(path: str) -> None:
    app = Echo()
    await ask(app, gate(), path=path, headers=[(b"x-longreach-cache-salt", b"t1")], body={"cache_salt": "t2"})
    assert json.loads(app.body) == ({"cache_salt": "t1"} if path in SALTED else {})


async def test_without_a_decision_the_clients_salt_is_gone() -> None:
    app = Echo()
    await ask(app, gate(), headers=[(b"x-longreach-cache-salt", b"")], body={"cache_salt": "t2", "seed": 1})
    assert json.loads(app.body) == {"seed": 1}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("draws", "5eed" * 8, {"draws": bytes.fromhex("5eed" * 8)}),
        ("draws", "5eed" * 17, {}),
        ("draws", "5EED" * 8, {}),
        ("draws", "5e", {}),
        ("deadline-s", "1.5", {"deadline_s": 1.5}),
        ("deadline-s", "-1", {"deadline_s": -1.0}),
        ("deadline-s", "nan", {}),
        ("deadline-s", "inf", {}),
        ("deadline-s", "soon", {}),
        ("deadline-s", "9" * 5000, {}),
        ("wants", "outcome", {"wants": frozenset({"outcome"})}),
        ("wants", " ids, outcome,,", {"wants": frozenset({"outcome", "ids"})}),
        ("priority", "1" * 5000, {}),
        ("priority", "-1", {"priority": -1}),
        ("output-tokens", "-1", {}),
    ],
)
def test_only_what_can_be_read_was_said(name: str, value: str, expected: dict[str, Any]) -> None:
    assert read_decision([(f"X-Longreach-{name}".encode(), value.encode())]) == Decision(**expected)
