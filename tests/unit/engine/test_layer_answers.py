"""How an answer ends: whole, refused before its head, or visibly broken. Never cut and complete-looking."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from cluster.core import wire
from cluster.core.errors import EngineStalledError
from cluster.engine.layer import ContextRefusedError, Gate, Receive, Send
from tests.unit.engine.layer_harness import EVENT_STREAM, Client, Echo, ask, budget, chunk, gate, head, reading

LIMIT = 100
DONE = b"data: [DONE]\n\n"
ASKING = {"model": "tiny", "max_tokens": 30}


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


class Hanging:
    """An engine that answers nothing more, after `sent`."""

    def __init__(self, *sent: Any) -> None:
        self._sent = sent
        self.is_waiting = asyncio.Event()
        self.was_cancelled = asyncio.Event()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        for message in self._sent:
            await send(message)
        self.is_waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise


@pytest.mark.parametrize("body", [ASKING, {"model": "tiny"}], ids=["budget", "no budget"])
async def test_given_up_before_the_head_is_503(body: dict[str, Any]) -> None:
    own_gate, app = gate(), Hanging()
    asking = asyncio.create_task(ask(app, own_gate, body=body))
    await app.is_waiting.wait()
    own_gate.break_off("no step for 9 s")
    client = await asking
    assert (client.status, client.headers[wire.HEADER_REFUSAL]) == (503, wire.REFUSAL_STALLED)
    assert b"no step for 9 s" in client.text
    await app.was_cancelled.wait()
    assert own_gate.in_flight == 0


async def test_given_up_with_a_held_head_is_503() -> None:
    own_gate, app = gate(), Hanging(head(headers=EVENT_STREAM), chunk(b"data: role\n\n"))
    asking = asyncio.create_task(ask(app, own_gate, body=ASKING))
    await app.is_waiting.wait()
    own_gate.break_off("gone")
    client = await asking
    assert client.status == 503
    assert b"data:" not in client.text


async def test_given_up_after_the_head_is_a_broken_connection() -> None:
    own_gate, client = gate(), Client()
    app = Hanging(head(headers=EVENT_STREAM), chunk(b"data: a\n\n"))
    asking = asyncio.create_task(ask(app, own_gate, client=client, body={"model": "tiny"}))
    await app.is_waiting.wait()
    own_gate.break_off("no step for 9 s")
    with pytest.raises(EngineStalledError, match="no step for 9 s"):
        await asking
    await app.was_cancelled.wait()
    assert client.text == b"data: a\n\n"
    assert not client.is_finished
    assert own_gate.in_flight == 0


def dying(own_gate: Gate, dead: list[bool], *, after_head: bool) -> Any:
    """As vLLM: the core is gone, the stream gets an error event and [DONE]."""
    del own_gate

    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        if after_head:
            await send(head(headers=EVENT_STREAM))
            await send(chunk(b"data: a\n\n"))
        dead.append(True)
        if not after_head:
            await send(head(500))
        await send(chunk(b"data: {error}\n\n"))
        await send(chunk(DONE, more=False))

    return reading(app)


async def test_a_dead_core_in_mid_stream_cuts_before_vllm_can_say_done() -> None:
    dead: list[bool] = []
    own_gate, client = gate(engine_is_dead=lambda: bool(dead)), Client()
    with pytest.raises(EngineStalledError):
        await ask(dying(own_gate, dead, after_head=True), own_gate, client=client, body={"model": "tiny"})
    assert client.text == b"data: a\n\n"
    assert not client.is_finished
    assert own_gate.in_flight == 0


async def test_a_dead_core_before_the_head_is_503() -> None:
    dead: list[bool] = []
    own_gate = gate(engine_is_dead=lambda: bool(dead))
    client = await ask(dying(own_gate, dead, after_head=False), own_gate, body={"model": "tiny"})
    assert (client.status, client.headers[wire.HEADER_REFUSAL]) == (503, wire.REFUSAL_STALLED)
    assert DONE not in client.text
    assert own_gate.in_flight == 0


async def test_an_app_that_ignores_the_cut_sends_nothing_more() -> None:
    own_gate, client = gate(), Client()
    refused: list[type[Exception]] = []

    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        await send(head(headers=EVENT_STREAM))
        own_gate.break_off("gone")
        for message in (chunk(b"data: {error}\n\n"), chunk(DONE, more=False)):
            try:
                await send(message)
            except EngineStalledError as error:
                refused.append(type(error))

    with pytest.raises(EngineStalledError):
        await ask(reading(app), own_gate, client=client, body={"model": "tiny"})
    assert client.text == b""
    assert not client.is_finished
    assert refused


async def test_a_refusal_wins_over_a_death_that_follows() -> None:
    own_gate = gate()

    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            await raised(body, scope, receive, send)
        except ContextRefusedError:
            await send(head(500))
            own_gate.break_off("gone")
            await send(chunk(b"", more=False))

    assert (await ask(reading(app), own_gate, body=ASKING)).status == 400


async def test_a_disconnect_reaches_the_app() -> None:
    own_gate, client = gate(), Client()
    is_waiting = asyncio.Event()
    heard: list[str] = []

    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, send
        is_waiting.set()
        heard.append((await receive())["type"])

    asking = asyncio.create_task(ask(reading(app), own_gate, client=client, body=ASKING))
    await is_waiting.wait()
    assert own_gate.in_flight == 1
    client.left.set()
    await asking
    assert heard == ["http.disconnect"]
    assert own_gate.in_flight == 0


async def test_cancelling_the_request_cancels_the_app() -> None:
    own_gate, app = gate(), Hanging()
    asking = asyncio.create_task(ask(app, own_gate, body=ASKING))
    await app.is_waiting.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await app.was_cancelled.wait()
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
