"""What the REST surface says to requests that are wrong, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Running, leases_of, running

CONFIG = TWO_POOLS + "gateway: {limits: {body_bytes: 100000, client_stall_s: 0.5}}\n"
HI = '"messages": [{"role": "user", "content": "hi"}]'


@pytest.fixture(scope="module")
async def gateway() -> AsyncIterator[Running]:
    async with serve(FakeEngine()) as engine, running(CONFIG, store=leases_of(short=engine, long=engine)) as started:
        yield started


async def post(gateway: Running, path: str, body: str | bytes, **headers: str) -> tuple[int, dict[str, str]]:
    answer = await gateway.client.post(path, content=body, headers=headers)
    assert answer.headers["x-request-id"]
    error = answer.json()["error"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, error


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ("{", None, "not valid JSON"),
        ("", None, "not valid JSON"),
        ("[]", None, "must be a JSON object"),
        (b'{"model": "\xff"}', None, "not UTF-8"),
        ('{"model": "a", "model": "b"}', "model", "twice"),
        (f'{{"model": "tiny", {HI}, "x": {{"seed": 1, "seed": 2}}}}', "seed", "twice"),
        (f'{{"model": "tiny", {HI}, "temperature": NaN}}', None, "NaN"),
        (f'{{"model": "tiny", {HI}, "temperature": 1e999}}', None, "too large"),
        (f'{{"model": "tiny", {HI}, "seed": {"9" * 5000}}}', None, "too many digits"),
        ("[" * 100_000, None, "nested"),
        (f'{{"model": "tiny", {HI}, "x": {"[" * 500}{"]" * 500}}}', None, "nested"),
        (f'{{"model": "tiny", {HI}, "user": "\\ud800"}}', None, "surrogate"),
        (f"{{{HI}}}", "model", "required"),
        (f'{{"model": 3, {HI}}}', "model", "string"),
        ('{"model": "tiny"}', "messages", "required"),
        ('{"model": "tiny", "messages": []}', "messages", "at least 1"),
        ('{"model": "tiny", "messages": "hi"}', "messages", "list"),
        ('{"model": "tiny", "messages": [{"content": "hi"}]}', "messages[0].role", "required"),
        (f'{{"model": "tiny", {HI}, "max_tokens": -5}}', "max_tokens", "given: -5"),
        (f'{{"model": "tiny", {HI}, "max_tokens": 0}}', "max_tokens", "given: 0"),
        (f'{{"model": "tiny", {HI}, "max_tokens": true}}', "max_tokens", "given: true"),
        (f'{{"model": "tiny", {HI}, "max_tokens": 1.5}}', "max_tokens", "given: 1.5"),
        (f'{{"model": "tiny", {HI}, "max_tokens": "10"}}', "max_tokens", "given: '10'"),
        (f'{{"model": "tiny", {HI}, "max_tokens": 501}}', "max_tokens", "500"),
        (f'{{"model": "tiny", {HI}, "max_completion_tokens": 501}}', "max_completion_tokens", "500"),
        (f'{{"model": "tiny", {HI}, "temperature": 2.1}}', "temperature", "less than or equal to 2"),
        (f'{{"model": "tiny", {HI}, "temperature": "warm"}}', "temperature", "number"),
        (f'{{"model": "tiny", {HI}, "n": 0}}', "n", "given: 0"),
        (f'{{"model": "tiny", {HI}, "stream": "yes"}}', "stream", "boolean"),
        (f'{{"model": "tiny", {HI}, "top_p": 0}}', "top_p", "greater than 0"),
        (f'{{"model": "tiny", {HI}, "stop": 7}}', "stop", "string"),
    ],
)
async def test_a_wrong_chat_body_is_400_with_its_field(
    gateway: Running, body: str | bytes, param: str | None, says: str
) -> None:
    status, error = await post(gateway, "/v1/chat/completions", body)
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert says in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", '{"model": "tiny"}', "prompt"),
        ("/v1/completions", '{"model": "tiny", "prompt": [1, "a"]}', "prompt"),
        ("/v1/completions", '{"model": "tiny", "prompt": [-1]}', "prompt"),
        ("/v1/completions", '{"model": "tiny", "prompt": []}', "prompt"),
        ("/v1/completions", '{"model": "tiny", "prompt": "a", "max_tokens": 0}', "max_tokens"),
        ("/v1/responses", '{"model": "tiny", "input": "a", "previous_response_id": "r"}', "previous_response_id"),
        ("/v1/responses", '{"model": "tiny", "input": "a", "background": true}', "background"),
        ("/v1/responses", '{"model": "tiny", "input": "a", "conversation": "c"}', "conversation"),
        ("/v1/responses", '{"model": "tiny"}', "input"),
        ("/v1/embeddings", '{"model": "tiny"}', "input"),
        ("/v1/rerank", '{"model": "tiny", "query": "q"}', "documents"),
        ("/detokenize", '{"model": "tiny"}', "tokens"),
    ],
)
async def test_other_routes_name_the_field_too(gateway: Running, path: str, body: str, param: str) -> None:
    status, error = await post(gateway, path, body)
    assert (status, error["param"]) == (400, param)


async def test_messages_errors_have_anthropics_form(gateway: Running) -> None:
    answer = await gateway.client.post("/v1/messages", json={"model": "nope", "messages": [{"role": "user"}]})
    assert answer.status_code == 404
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "not_found_error"


async def test_too_long_says_count_limit_and_remedy(gateway: Running) -> None:
    body = json.dumps({"model": "tiny", "prompt": [7] * 3900, "max_tokens": 200})
    status, error = await post(gateway, "/v1/completions", body)
    assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", "prompt")
    assert "Your prompt has 3,900 tokens and asks for 200 of output: 4,100 in all" in error["message"]
    assert "4,000 tokens" in error["message"]
    assert "set max_tokens to 100 or less" in error["message"]


@pytest.mark.parametrize(
    ("tokens", "output", "pool"),
    [
        (990, 10, "short"),
        (990, 11, "long"),
        (3990, 10, "long"),
        (3990, 11, None),
        (984, None, "short"),
        (985, None, "long"),
    ],
)
async def test_boundaries_are_exact(gateway: Running, tokens: int, output: int | None, pool: str | None) -> None:
    body = {"model": "tiny", "prompt": [7] * tokens} | ({} if output is None else {"max_tokens": output})
    answer = await gateway.client.post("/v1/completions", json=body)
    assert answer.headers.get("x-longreach-pool") == pool
    assert answer.status_code == (200 if pool else 400)


async def test_body_over_the_limit_is_413(gateway: Running) -> None:
    status, error = await post(gateway, "/v1/chat/completions", b" " * 100_001)
    assert (status, error["code"]) == (413, "body_too_large")

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 10_000

    answer = await gateway.client.post("/v1/chat/completions", content=parts())
    assert answer.status_code == 413


async def test_a_client_that_stalls_is_408(gateway: Running) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    head = await asyncio.wait_for(reader.readline(), 5)
    assert b" 408 " in head
    writer.close()


async def test_encoded_bodies_are_415(gateway: Running) -> None:
    status, error = await post(gateway, "/v1/chat/completions", b"x", **{"content-encoding": "gzip"})
    assert (status, error["code"]) == (415, "unsupported_encoding")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/sleep", "/wake_up", "/reset_prefix_cache", "/pause",
        "/init_weight_transfer_engine", "/update_weights", "/collective_rpc", "/abort_requests", "/server_info",
        "/start_profile", "/v1/chat/completions/", "/v1/chat/completions/render", "/v1/audio/transcriptions",
        "/invocations", "/v1/responses/resp_1/cancel", "/docs", "/..//sleep", "/v1/chat/completions/../../sleep",
    ],
)  # fmt: skip
async def test_nothing_outside_the_allowlist_passes(gateway: Running, path: str) -> None:
    for method in ("POST", "GET"):
        answer = await gateway.client.request(method, path, json={"model": "tiny"})
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "route_not_found"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/v1/chat/completions", "POST"), ("DELETE", "/tokenize", "POST"), ("POST", "/health", "GET")],
)
async def test_wrong_methods_are_405_with_the_right_ones(
    gateway: Running, method: str, path: str, allowed: str
) -> None:
    answer = await gateway.client.request(method, path)
    assert answer.status_code == 405
    assert allowed in answer.headers["allow"]
    assert answer.json()["error"]["code"] == "method_not_allowed"


async def test_a_harmful_request_id_is_replaced(gateway: Running) -> None:
    kept = await gateway.client.get("/health", headers={"x-request-id": "a.b:c-1"})
    replaced = await gateway.client.get("/health", headers={"x-request-id": "a b;c"})
    assert kept.headers["x-request-id"] == "a.b:c-1"
    assert replaced.headers["x-request-id"].startswith("req-")


async def test_models_are_one_list_with_the_largest_context(gateway: Running) -> None:
    models = (await gateway.client.get("/v1/models")).json()["data"]
    assert [(model["id"], model["root"], model["parent"], model["max_model_len"]) for model in models] == [
        ("tiny", "tiny", None, 4000),
        ("gpt-4o", "tiny", None, 4000),
        ("tiny-sql", "tiny-sql", "tiny", 4000),
    ]
    assert [pool["name"] for pool in models[0]["longreach"]["pools"]] == ["short", "long"]
    assert (await gateway.client.get("/v1/models/gpt-4o")).json()["root"] == "tiny"
    assert (await gateway.client.get("/v1/models/none")).status_code == 404


async def test_tokenize_and_rerank_have_their_aliases(gateway: Running) -> None:
    for path in ("/tokenize", "/v1/tokenize"):
        answer = await gateway.client.post(path, json={"model": "tiny", "prompt": "a" * 90_000})
        assert (answer.status_code, answer.headers["x-longreach-pool"]) == (200, "short")
    for path in ("/rerank", "/v1/rerank"):
        answer = await gateway.client.post(path, json={"model": "tiny", "query": "q", "documents": ["a", "b"]})
        assert answer.status_code == 200


async def test_ready_metrics_and_description(gateway: Running) -> None:
    ready = await gateway.client.get("/ready")
    metrics = await gateway.metrics()
    description = (await gateway.client.get("/openapi.json")).json()
    assert ready.json()["pools"] == {"short": {"ready": 1}, "long": {"ready": 1}}
    assert 'longreach_endpoints{pool="short",state="ready"} 1.0' in metrics
    assert "longreach_directory_age_seconds" in metrics
    assert description["openapi"] == "3.1.0"
    assert set(description["paths"]) >= {"/v1/chat/completions", "/v1/models", "/ready"}
