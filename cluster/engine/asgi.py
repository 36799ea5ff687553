"""ASGI as the replica's layer uses it: its types, reading a body once and giving it again, answers of its own.

What must not live here: when something is answered or refused (the modules beside this one).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from cluster.core import wire

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MAX_BODY_BYTES = 2**31
"""The gateway holds the configured limit; this one only keeps a stray client from filling the memory."""
SERVER_ERROR_MIN = 500
CLIENT_ERROR_MIN = 400


async def read_body(receive: Receive) -> bytes | None:
    """The whole body; None when the client left first, or sends without end."""
    parts = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts += message.get("body", b"")
        if len(parts) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(parts)


def replay(raw: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more, then waits for the client to leave."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": raw, "more_body": False}
        return await receive()

    return replayed


async def refuse(
    send: Send, status: int, refusal: str, text: str, *, retry_after_s: int | None = None, extra: Sequence[Any] = ()
) -> None:
    """Answer that this replica does not take the request, and why, in a word that the gateway understands."""
    headers: Headers = [(wire.HEADER_REFUSAL.encode(), refusal.encode()), *extra]
    if retry_after_s is not None:
        headers.append((b"retry-after", str(retry_after_s).encode()))
    await answer_error(send, status, text, headers)


async def answer_error(send: Send, status: int, text: str, extra: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """A whole answer with an error in OpenAI's form."""
    kind = "invalid_request_error" if status < SERVER_ERROR_MIN else "server_error"
    body = json.dumps({"error": {"message": text, "type": kind, "param": None, "code": status}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
