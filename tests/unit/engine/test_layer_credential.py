"""A replica serves the gateways of its cluster and nobody else."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from cluster.core import wire
from cluster.engine.asgi import Receive, Send
from cluster.engine.layer import GET_PATHS, POST_ROUTES, EngineLayer
from tests.unit.engine.layer_harness import Client, Echo, ask, gate

SECRET = "s3cret-with-a-length"
SHOWN = (wire.HEADER_CREDENTIAL.encode(), SECRET.encode())
WRONG: list[list[tuple[bytes, bytes]]] = [
    [],
    [(b"x-longreach-credential", b"")],
    [(b"x-longreach-credential", SECRET[:-1].encode())],
    [(b"x-longreach-credential", SECRET.encode() + b" ")],
    [(b"x-longreach-credential", b"\xff\xfe")],
    [(b"authorization", b"Bearer " + SECRET.encode())],
    [SHOWN, (b"x-longreach-credential", b"other")],
]


@pytest.mark.parametrize("headers", WRONG, ids=range(len(WRONG)))
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", path) for path in sorted(POST_ROUTES)),
        *(("GET", path) for path in sorted(GET_PATHS - {"/health"})),
        ("POST", "/sleep"),
        ("POST", "/health"),
    ],
)
async def test_without_the_secret_nothing_is_served(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> None:
    app = Echo()
    client = await ask(app, gate(), method=method, path=path, headers=headers, credential=SECRET)
    assert (client.status, client.headers[wire.HEADER_REFUSAL]) == (401, wire.REFUSAL_CREDENTIAL)
    assert json.loads(client.text)["error"]["code"] == 401
    assert SECRET.encode() not in client.text
    assert app.seen == []


async def test_health_is_for_everybody() -> None:
    assert (await ask(Echo(), gate(), method="GET", path="/health", credential=SECRET)).status == 200


@pytest.mark.parametrize("name", [b"x-longreach-credential", b"X-Longreach-Credential"])
async def test_with_the_secret_everything_is_and_vllm_never_sees_it(name: bytes) -> None:
    app = Echo()
    client = await ask(app, gate(), headers=[(name, SECRET.encode())], credential=SECRET)
    assert client.status == 200
    assert SECRET.encode() not in app.headers.values()


async def test_a_stranger_learns_nothing_of_the_replicas_state() -> None:
    client = await ask(Echo(), gate(draining=True, max_requests=0), credential=SECRET)
    assert client.status == 401


async def test_websockets_are_closed() -> None:
    reached: list[str] = []

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del receive, send
        reached.append(scope["type"])

    client = Client()
    scope = {"type": "websocket", "path": "/v1/realtime", "headers": [SHOWN]}
    await EngineLayer(app, gate(), credential=SECRET)(scope, client.receive, client.send)
    assert reached == []
    assert [message["type"] for message in client.got] == ["websocket.close"]
