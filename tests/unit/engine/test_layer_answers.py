"""The head waits for the context check, and a refused context is one 400 however vLLM takes the exception."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from cluster.core import wire
from cluster.engine.asgi import Receive, Send
from cluster.engine.budget import ContextRefusedError
from tests.unit.engine.layer_harness import (
    ASKING,
    DONE,
    EVENT_STREAM,
    LIMIT,
    Client,
    Echo,
    ask,
    budget,
    chunk,
    gate,
    head,
    reading,
)


async def test_the_head_waits_for_the_context_check() -> None:
    client = Client()
    seen_before: list[int] = []

    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        await send(head(headers=EVENT_STREAM))
        await send(chunk(b"data: role\n\n"))
        seen_before.append(len(client.got))
        budget().check(70, LIMIT)
        await send(chunk(b"data: a\n\n"))
        seen_before.append(len(client.got))
        await send(chunk(DONE, more=False))

    await ask(reading(app), gate(), client=client, body=ASKING)
    assert seen_before == [0, 3]
    assert client.text == b"data: role\n\ndata: a\n\n" + DONE
    assert client.is_finished


async def test_a_request_without_a_budget_is_not_held() -> None:
    client = Client()
    seen: list[int] = []

    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        await send(head())
        seen.append(len(client.got))
        await send(chunk(b"", more=False))

    await ask(reading(app), gate(), client=client, body={"model": "tiny"})
    assert seen == [1]


async def test_a_whole_answer_that_never_came_to_the_engine_goes_out() -> None:
    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        await send(head(400))
        await send(chunk(b"bad temperature", more=False))

    client = await ask(reading(app), gate(), body=ASKING)
    assert (client.status, client.text) == (400, b"bad temperature")


async def raised(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    del body, scope, receive, send
    budget().check(71, LIMIT)


async def swallowed_into_500(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    del body, scope, receive
    try:
        budget().check(71, LIMIT)
    except ContextRefusedError:
        await send(head(500))
        await send(chunk(b'{"error": "internal"}', more=False))


async def answered_and_raised_again(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """As Starlette's ServerErrorMiddleware: it answers 500, then raises for the server's log."""
    try:
        await raised(body, scope, receive, send)
    except ContextRefusedError:
        await send(head(500))
        await send(chunk(b"Internal Server Error", more=False))
        raise


async def raised_after_a_held_head(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    await send(head(headers=EVENT_STREAM))
    await send(chunk(b"data: role\n\n"))
    await raised(body, scope, receive, send)


async def swallowed_in_a_stream(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """As vLLM's streaming generators: the error becomes an event, and the stream ends as if all were well."""
    del body, scope, receive
    await send(head(headers=EVENT_STREAM))
    try:
        budget().check(71, LIMIT)
    except ContextRefusedError:
        await send(chunk(b"data: {error}\n\n"))
    await send(chunk(DONE, more=False))


async def refused_by_its_second_prompt(
    body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send
) -> None:
    budget().check(5, LIMIT)
    await raised(body, scope, receive, send)


@pytest.mark.parametrize(
    "app",
    [
        raised,
        swallowed_into_500,
        answered_and_raised_again,
        raised_after_a_held_head,
        swallowed_in_a_stream,
        refused_by_its_second_prompt,
    ],
)
async def test_a_context_refusal_is_one_400_however_vllm_takes_it(app: Any) -> None:
    own_gate = gate()
    client = await ask(reading(app), own_gate, body=ASKING)
    assert client.status == 400
    assert client.headers[wire.HEADER_REFUSAL] == wire.REFUSAL_CONTEXT
    assert client.headers[wire.HEADER_PROMPT_TOKENS] == "71"
    assert "retry-after" not in client.headers
    assert client.is_finished
    assert DONE not in client.text
    message = json.loads(client.text)["error"]["message"]
    assert all(number in message for number in ("71", "30", "100"))
    assert own_gate.in_flight == 0


async def test_exactly_fitting_is_not_refused() -> None:
    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        budget().check(70, LIMIT)
        await send(head())
        await send(chunk(b"ok", more=False))

    assert (await ask(reading(app), gate(), body=ASKING)).status == 200


async def test_a_refusal_after_the_head_breaks_the_answer() -> None:
    """An API that generates several times in one request (responses with tools) can be refused half-way."""

    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        budget().check(5, LIMIT)
        await send(head(headers=EVENT_STREAM))
        await send(chunk(b"data: first turn\n\n"))
        await raised(body, scope, receive, send)

    own_gate, client = gate(), Client()
    with pytest.raises(ContextRefusedError):
        await ask(reading(app), own_gate, client=client, body=ASKING)
    assert client.status == 200
    assert client.text == b"data: first turn\n\n"
    assert not client.is_finished
    assert own_gate.in_flight == 0


async def test_other_exceptions_stay_what_they_are() -> None:
    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    own_gate = gate()
    with pytest.raises(ZeroDivisionError):
        await ask(reading(app), own_gate, body=ASKING)
    assert own_gate.in_flight == 0


async def test_budgets_of_concurrent_requests_are_their_own() -> None:
    both = asyncio.Barrier(2)

    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del scope, receive
        await both.wait()
        assert budget().output_tokens == json.loads(body)["max_tokens"]
        budget().check(60, LIMIT)
        await send(head())
        await send(chunk(b"ok", more=False))

    small, large = await asyncio.gather(
        ask(reading(app), gate(), body={"max_tokens": 40}), ask(reading(app), gate(), body={"max_tokens": 41})
    )
    assert (small.status, large.status) == (200, 400)


async def test_a_budget_does_not_leak_into_the_next_request() -> None:
    own_gate = gate()
    await ask(reading(raised), own_gate, body=ASKING)
    assert (await ask(Echo(), own_gate, body={"model": "tiny"})).status == 200
