"""Passes an endpoint's answer on to the client as it arrives, and never lets a broken one look complete.

What lives here: the answer's head, its bytes, its end. What must not: finding the endpoint, parsing what passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.types import Send

from cluster.core import wire
from cluster.core.request import InferenceRequest
from services.gateway.outcome import Served
from services.gateway.upstream import UpstreamBrokenError, UpstreamFailure
from services.rest.errors import stream_error

PASSED_HEADERS = ("content-type", "content-length", "content-encoding", "retry-after")
"""The only headers of an engine that a client sees: all others are hop-by-hop or nobody's business."""
EVENT_STREAM = "text/event-stream"
MAX_REASON_CHARS = 512
"""A header line stays well under what proxies take (8 KiB)."""


@dataclass(slots=True, kw_only=True)
class Relayed:
    """What became of an answer on its way to the client."""

    sent_bytes: int = 0
    broken: UpstreamFailure | None = None
    stalled: bool = False
    """The client stopped reading."""


def routed_headers(served: Served, request: InferenceRequest) -> list[tuple[bytes, bytes]]:
    """The head of an answer: the engine's few passed headers, and where the request went and why."""
    headers = {name: served.answer.headers[name] for name in PASSED_HEADERS if name in served.answer.headers}
    headers[wire.HEADER_REQUEST_ID] = request.request_id
    headers[wire.HEADER_POOL] = served.choice.endpoint.pool
    headers[wire.HEADER_REPLICA] = served.choice.endpoint.replica_id
    headers[wire.HEADER_REASON] = served.choice.reason[:MAX_REASON_CHARS]
    if served.attempts > 1:
        headers[wire.HEADER_ATTEMPTS] = str(served.attempts)
    if headers.get("content-type", "").startswith(EVENT_STREAM):
        # For proxies between here and the client, which would gather tokens otherwise.
        headers["cache-control"] = "no-cache"
        headers["x-accel-buffering"] = "no"
    return _encoded(headers.items())


async def relay(served: Served, request: InferenceRequest, send: Send, *, stall_s: float) -> Relayed:
    """Send the answer's head and bytes; returns when it ends, one way or another.

    An answer that breaks off gets an error event where it is a stream of events, and its last chunk is never sent:
    the server then closes the connection, which every client can tell from an end.

    Args:
        served: the answer.
        request: what it answers.
        send: to the client.
        stall_s: the longest the client may leave bytes unread.
    """
    relayed = Relayed()
    head = routed_headers(served, request)
    is_events = any(name == b"content-type" and value.startswith(EVENT_STREAM.encode()) for name, value in head)
    try:
        await send({"type": "http.response.start", "status": served.answer.status, "headers": head})
        async for chunk in served.answer.chunks():
            async with asyncio.timeout(stall_s):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            relayed.sent_bytes += len(chunk)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except UpstreamBrokenError as error:
        relayed.broken = error.failure
        if is_events:
            # A break inside an event leaves half a line: the blank line ends it, so that the error is an event.
            event = b"\n\n" + stream_error(request.route, error.failure)
            await send({"type": "http.response.body", "body": event, "more_body": True})
    except TimeoutError:
        relayed.stalled = True
    return relayed


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
