"""A request whose time is over costs the engine nothing more, and its answer never looks complete."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, MutableMapping
from typing import Any

import pytest

from cluster.core import wire
from cluster.engine.asgi import Receive, Send
from cluster.engine.call import RequestOverError
from cluster.engine.guard import DeadlineError
from tests.unit.engine.layer_harness import (
    ASKING,
    DONE,
    EVENT_STREAM,
    Client,
    Echo,
    ask,
    call,
    chunk,
    gate,
    head,
    reading,
)

SOON = [(b"x-longreach-deadline-s", b"0.05")]
LATE_S = 1.0
"""Promised are 0.1 s; the rest is room for a loaded machine."""


class Engine:
    """Outputs for ever, one by one as they are let through; closing it is an abort."""

    def __init__(self) -> None:
        self.aborted_s = 0.0
        self.asked = asyncio.Event()

    async def generate(self) -> AsyncGenerator[int, None]:
        try:
            yield 1
            self.asked.set()
            await asyncio.Event().wait()
        finally:
            self.aborted_s = time.monotonic()


def generating(engine: Engine, *, after_head: bool, in_own_task: bool) -> Any:
    """As vLLM's handlers, which work in a task that nobody cancels with the request."""

    async def work(send: Send) -> None:
        if after_head:
            await send(head(headers=EVENT_STREAM))
        async for _ in call().watch(engine.generate()):
            if after_head:
                await send(chunk(b"data: a\n\n"))
        await send(chunk(DONE, more=False))

    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        if not in_own_task:
            await work(send)
            return
        task = asyncio.create_task(work(send))
        await asyncio.wait({task})
        await task

    return reading(app)


@pytest.mark.parametrize("in_own_task", [False, True])
async def test_before_the_head_it_is_504(in_own_task: bool) -> None:
    engine, own_gate = Engine(), gate()
    began_s = time.monotonic()
    app = generating(engine, after_head=False, in_own_task=in_own_task)
    client = await ask(app, own_gate, headers=SOON, body={"model": "tiny"})
    assert (client.status, client.headers[wire.HEADER_REFUSAL]) == (504, wire.REFUSAL_DEADLINE)
    assert json.loads(client.text)["error"]["code"] == 504
    assert client.is_finished
    for _ in range(3):
        await asyncio.sleep(0)
    assert 0.05 <= engine.aborted_s - began_s < LATE_S
    assert own_gate.in_flight == 0


@pytest.mark.parametrize("in_own_task", [False, True])
async def test_after_the_head_the_connection_breaks(in_own_task: bool) -> None:
    engine, own_gate, client = Engine(), gate(), Client()
    began_s = time.monotonic()
    app = generating(engine, after_head=True, in_own_task=in_own_task)
    with pytest.raises(DeadlineError):
        await ask(app, own_gate, client=client, headers=SOON, body={"model": "tiny"})
    assert (client.status, client.text) == (200, b"data: a\n\n")
    assert not client.is_finished
    for _ in range(3):
        await asyncio.sleep(0)
    assert 0.05 <= engine.aborted_s - began_s < LATE_S
    assert own_gate.in_flight == 0


async def test_a_held_head_is_no_head() -> None:
    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        await send(head(headers=EVENT_STREAM))
        await send(chunk(b"data: role\n\n"))
        await asyncio.Event().wait()

    client = await ask(reading(app), gate(), headers=SOON, body=ASKING)
    assert client.status == 504
    assert b"data:" not in client.text


@pytest.mark.parametrize("left", [b"0", b"-3"])
async def test_no_time_left_asks_nobody(left: bytes) -> None:
    app = Echo()
    client = await ask(app, gate(), headers=[(b"x-longreach-deadline-s", left)])
    assert client.status == 504
    assert app.seen == []


async def test_an_answer_in_time_is_left_alone() -> None:
    client = await ask(Echo(), gate(), headers=[(b"x-longreach-deadline-s", b"30")])
    assert (client.status, client.text) == (200, b"fine")


async def test_a_complete_answer_is_not_broken_while_its_app_lingers() -> None:
    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        await send(head())
        await send(chunk(b"ok", more=False))
        await asyncio.Event().wait()

    client = await ask(reading(app), gate(), headers=SOON, body={})
    assert (client.status, client.text) == (200, b"ok")


async def test_who_asks_the_engine_too_late_gets_nothing() -> None:
    asked_late: list[type[BaseException]] = []
    ended = asyncio.Event()

    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive, send
        own = call()

        async def tokenizing() -> None:
            await asyncio.sleep(0.1)
            try:
                async for _ in own.watch(Engine().generate()):
                    pass
            except RequestOverError as error:
                asked_late.append(type(error))
            ended.set()

        asyncio.create_task(tokenizing())  # noqa: RUF006 - `ended` waits for it
        await asyncio.Event().wait()

    assert (await ask(reading(app), gate(), headers=SOON, body={})).status == 504
    async with asyncio.timeout(LATE_S):
        await ended.wait()
    assert asked_late == [RequestOverError]


async def test_a_request_that_serve_cancels_ends_the_engines_work_too() -> None:
    engine = Engine()
    asking = asyncio.create_task(ask(generating(engine, after_head=False, in_own_task=True), gate(), body={}))
    await engine.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    for _ in range(3):
        await asyncio.sleep(0)
    assert engine.aborted_s > 0
