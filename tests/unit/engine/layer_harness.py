"""One request through EngineLayer without a server: a hand-made scope, a client that can leave, everything sent kept.

What must not live here: tests.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.engine.asgi import App, Message, Receive, Send
from cluster.engine.budget import Budget
from cluster.engine.call import CURRENT_CALL, Call
from cluster.engine.gate import Gate
from cluster.engine.layer import EngineLayer

PATIENCE_S = 10.0
"""Nothing here waits for anything slow; a test that does has a bug."""
CHAT = "/v1/chat/completions"
LIMIT = 100
"""The context limit in these tests."""
ASKING = {"model": "tiny", "max_tokens": 30}
DONE = b"data: [DONE]\n\n"
EVENT_STREAM = [(b"content-type", b"text/event-stream")]

Inner = Callable[[bytes, MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def gate(**changes: Any) -> Gate:
    """A gate of a living engine with room."""
    values: dict[str, Any] = {"engine_is_dead": lambda: False, "max_requests": 8}
    return Gate(**(values | changes))


def head(status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def chunk(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def call() -> Call:
    """What the engine's client finds of the request being served."""
    found = CURRENT_CALL.get()
    assert found is not None
    return found


def budget() -> Budget:
    """The budget of the request being served."""
    found = call().budget
    assert found is not None
    return found


@dataclass(slots=True)
class Client:
    """The far end: it sends one body, may leave, and keeps what it got."""

    body: bytes = b"{}"
    pieces: list[bytes] = field(default_factory=list)
    """Sent before `body`, which is the last."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    got: list[Message] = field(default_factory=list)
    got_something: asyncio.Event = field(default_factory=asyncio.Event)
    stops_sending: bool = False
    """Leaves before its body is complete."""
    _given: bool = False

    async def receive(self) -> Message:
        if self.pieces:
            return {"type": "http.request", "body": self.pieces.pop(0), "more_body": True}
        if not self._given and not self.stops_sending:
            self._given = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        if not self.stops_sending:
            await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.got.append(message)
        self.got_something.set()

    @property
    def starts(self) -> list[Message]:
        return [message for message in self.got if message["type"] == "http.response.start"]

    @property
    def status(self) -> int:
        (start,) = self.starts
        return int(start["status"])

    @property
    def headers(self) -> dict[str, str]:
        (start,) = self.starts
        return {key.decode(): value.decode() for key, value in start["headers"]}

    @property
    def text(self) -> bytes:
        return b"".join(message["body"] for message in self.got if message["type"] == "http.response.body")

    @property
    def is_finished(self) -> bool:
        """Whether the answer was ended properly."""
        return bool(self.got) and not self.got[-1].get("more_body", self.got[-1]["type"] == "http.response.start")


async def ask(
    app: App,
    own_gate: Gate,
    *,
    client: Client | None = None,
    method: str = "POST",
    path: str = CHAT,
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: dict[str, Any] | bytes | None = None,
    root_path: str = "",
    credential: str | None = None,
) -> Client:
    """One request, to its end; raises what the layer raises."""
    client = client or Client()
    if body is not None:
        client.body = body if isinstance(body, bytes) else json.dumps(body).encode()
    scope = {"type": "http", "method": method, "path": path, "root_path": root_path, "headers": list(headers)}
    async with asyncio.timeout(PATIENCE_S):
        await EngineLayer(app, own_gate, credential=credential)(scope, client.receive, client.send)
    return client


def reading(inner: Inner) -> App:
    """An application that has read its body before `inner` begins."""

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        message = await receive()
        assert message["type"] == "http.request"
        assert not message["more_body"]
        await inner(message["body"], scope, receive, send)

    return app


@dataclass(slots=True)
class Echo:
    """An application that answers 200 and remembers what reached it."""

    seen: list[tuple[bytes, dict[bytes, bytes]]] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        ((body, _),) = self.seen
        return body

    @property
    def headers(self) -> dict[bytes, bytes]:
        ((_, headers),) = self.seen
        return headers

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        body = b"" if scope["method"] == "GET" else (await receive())["body"]
        self.seen.append((body, dict(scope["headers"])))
        await send(head())
        await send(chunk(b"fine", more=False))
