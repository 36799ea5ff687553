"""What a replica lets through to vLLM, and what it changes on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from cluster.core import wire
from cluster.engine.asgi import Receive, Send
from cluster.engine.gate import Gate
from cluster.engine.layer import GET_PATHS, POST_ROUTES, EngineLayer
from tests.unit.engine.layer_harness import Client, Echo, ask, chunk, gate, head, reading

ADMINISTRATION = [
    ("POST", "/v1/load_lora_adapter"),
    ("POST", "/sleep"),
    ("POST", "/reset_prefix_cache"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/chat/completions"),
    ("HEAD", "/health"),
    ("DELETE", "/v1/chat/completions"),
    ("POST", "/v1/chat/completions/"),
    ("POST", "/v1/../sleep"),
]


@pytest.mark.parametrize(("method", "path"), ADMINISTRATION)
async def test_unknown_routes_never_reach_vllm(method: str, path: str) -> None:
    app = Echo()
    client = await ask(app, gate(), method=method, path=path)
    assert client.status == 404
    assert client.is_finished
    assert app.seen == []
    assert json.loads(client.text)["error"]["code"] == 404


@pytest.mark.parametrize("path", sorted(POST_ROUTES))
async def test_known_routes_do(path: str) -> None:
    app = Echo()
    assert (await ask(app, gate(), path=f"/short{path}", root_path="/short")).text == b"fine"
    assert len(app.seen) == 1


@pytest.mark.parametrize("path", sorted(GET_PATHS))
async def test_looking_is_allowed_whatever_the_gate_says(path: str) -> None:
    closed = gate(max_requests=0, draining=True)
    closed.break_off("gone")
    assert (await ask(Echo(), closed, method="GET", path=path)).status == 200


async def test_what_is_not_http_passes_untouched() -> None:
    scopes: list[str] = []

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del receive, send
        scopes.append(scope["type"])

    client = Client()
    await EngineLayer(app, gate())({"type": "lifespan"}, client.receive, client.send)
    assert scopes == ["lifespan"]


def broken_off() -> Gate:
    made = gate()
    made.break_off("no step for 9 s")
    return made


@pytest.mark.parametrize(
    ("closed", "status", "refusal"),
    [
        (gate(draining=True), 503, wire.REFUSAL_DRAINING),
        (gate(max_requests=3, in_flight=3), 429, wire.REFUSAL_OVERLOAD),
        (gate(engine_is_dead=lambda: True), 503, wire.REFUSAL_STALLED),
        (broken_off(), 503, wire.REFUSAL_STALLED),
        (gate(draining=True, max_requests=0), 503, wire.REFUSAL_DRAINING),
    ],
    ids=["draining", "full", "dead", "given up", "draining and full"],
)
async def test_refusals_say_why(closed: Gate, status: int, refusal: str) -> None:
    app = Echo()
    client = await ask(app, closed)
    assert (client.status, client.headers[wire.HEADER_REFUSAL]) == (status, refusal)
    assert int(client.headers["retry-after"]) > 0
    assert app.seen == []


async def test_the_limit_is_exact() -> None:
    own_gate = gate(max_requests=2)
    go = asyncio.Event()
    both = asyncio.Semaphore(0)

    async def waiting(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        both.release()
        await go.wait()
        await send(head())
        await send(chunk(b"", more=False))

    first, second = (asyncio.create_task(ask(reading(waiting), own_gate)) for _ in range(2))
    await both.acquire()
    await both.acquire()
    assert own_gate.in_flight == 2
    assert (await ask(Echo(), own_gate)).status == 429
    go.set()
    assert {(await first).status, (await second).status} == {200}
    assert own_gate.in_flight == 0
    assert (await ask(Echo(), own_gate)).status == 200


async def test_an_untouched_body_passes_byte_for_byte() -> None:
    raw = b'{ "model":\t"tiny",  "max_tokens":5, "messages": [{"content":"caf\\u00e9 \xc3\xa9"}], "x": 1.0e2 }\r\n'
    app = Echo()
    await ask(app, gate(), body=raw)
    assert app.body == raw
    assert app.headers[b"content-length"] == str(len(raw)).encode()


async def test_a_body_in_pieces_passes_whole() -> None:
    app = Echo()
    await ask(app, gate(), client=Client(pieces=[b'{"model"', b""], body=b': "tiny"}'))
    assert app.body == b'{"model": "tiny"}'


async def test_internal_fields_are_stripped_and_the_rest_stays() -> None:
    body = {"cache_salt": "s", "vllm_xargs": {"a": 1}, "kv_transfer_params": {}, "seed": 3, "max_tokens": 7}
    app = Echo()
    await ask(app, gate(), body=body)
    assert json.loads(app.body) == {"seed": 3, "max_tokens": 7}
    assert app.headers[b"content-length"] == str(len(app.body)).encode()


async def test_headers_that_steer_are_stripped() -> None:
    headers = [
        (b"x-longreach-model", b"tiny"),
        (b"X-Longreach-Anything", b"1"),
        (b"X-Request-Disconnect-Disabled", b"?1"),
        (b"x-request-timeout-seconds", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"content-length", b"999"),
        (b"x-request-id", b"r-1"),
        (b"authorization", b"Bearer k"),
    ]
    app = Echo()
    await ask(app, gate(), headers=headers, body={"model": "tiny"})
    assert app.headers == {
        b"x-request-id": b"r-1",
        b"authorization": b"Bearer k",
        b"content-length": str(len(app.body)).encode(),
    }


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/chat/completions", {}, {"max_completion_tokens": 40}),
        ("/v1/chat/completions", {"max_tokens": 9}, {"max_tokens": 9}),
        ("/v1/chat/completions", {"max_completion_tokens": None}, {"max_completion_tokens": 40}),
        ("/v1/completions", {}, {"max_tokens": 40}),
        ("/v1/responses", {}, {"max_output_tokens": 40}),
        ("/v1/messages", {"max_tokens": 1}, {"max_tokens": 1}),
        ("/v1/embeddings", {}, {}),
        ("/tokenize", {}, {}),
    ],
)
async def test_the_granted_budget_fills_a_silent_request(
    path: str, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    app = Echo()
    await ask(app, gate(), path=path, headers=[(b"x-longreach-output-tokens", b"40")], body=body)
    assert json.loads(app.body) == expected


@pytest.mark.parametrize("value", [b"0", b"-5", b"", b"4e1", b"\xb2", b"x"])
async def test_a_budget_that_is_no_positive_number_is_ignored(value: bytes) -> None:
    app = Echo()
    await ask(app, gate(), headers=[(b"x-longreach-output-tokens", value)], body={"seed": 1})
    assert json.loads(app.body) == {"seed": 1}


async def test_a_budget_too_long_to_be_a_number_is_ignored() -> None:
    app = Echo()
    client = await ask(app, gate(), headers=[(b"x-longreach-output-tokens", b"9" * 5000)], body={"seed": 1})
    assert client.status == 200


async def test_the_engines_own_model_name_is_applied() -> None:
    app = Echo()
    await ask(app, gate(), headers=[(b"x-longreach-model", b"tiny")], body={"model": "gpt-4o", "max_tokens": 3})
    assert json.loads(app.body) == {"model": "tiny", "max_tokens": 3}


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{", b"\xff", b'"x"', b"[" * 100_000, b"1" * 5000])
async def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    app = Echo()
    own_gate = gate()
    assert (await ask(app, own_gate, body=raw)).status == 400
    assert app.seen == []
    assert own_gate.in_flight == 0


async def test_a_client_that_leaves_while_sending_gets_nothing() -> None:
    app, own_gate, client = Echo(), gate(), Client(pieces=[b'{"model"'], stops_sending=True)
    await ask(app, own_gate, client=client)
    assert (app.seen, client.got, own_gate.in_flight) == ([], [], 0)
