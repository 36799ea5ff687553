"""Answers whose engine or client goes away: refused before the head, visibly broken after it, never half a whole."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from cluster.core import wire
from cluster.core.errors import EngineStalledError
from cluster.engine.asgi import Receive, Send
from cluster.engine.budget import ContextRefusedError
from tests.unit.engine.layer_harness import (
    ASKING,
    DONE,
    EVENT_STREAM,
    LIMIT,
    Client,
    ask,
    budget,
    chunk,
    gate,
    head,
    reading,
)


class Hanging:
    """An engine that answers nothing more, after `sent`."""

    def __init__(self, *sent: Any) -> None:
        self._sent = sent
        self.is_waiting = asyncio.Event()
        self.was_cancelled = asyncio.Event()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del scope
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


def dying(dead: list[bool], *, after_head: bool) -> Any:
    """As vLLM: the core is gone, the stream gets an error event and [DONE]."""

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
        await ask(dying(dead, after_head=True), own_gate, client=client, body={"model": "tiny"})
    assert client.text == b"data: a\n\n"
    assert not client.is_finished
    assert own_gate.in_flight == 0


async def test_a_dead_core_before_the_head_is_503() -> None:
    dead: list[bool] = []
    own_gate = gate(engine_is_dead=lambda: bool(dead))
    client = await ask(dying(dead, after_head=False), own_gate, body={"model": "tiny"})
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
        del body, scope, receive
        try:
            budget().check(71, LIMIT)
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
