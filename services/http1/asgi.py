"""Serves an ordinary ASGI application on our connections: for routes whose speed does not matter.

Answers are gathered whole. What must not live here: routes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from services.http1.answer import HttpDate, head
from services.http1.exchange import Exchange
from services.http1.request import HttpRequest

logger = logging.getLogger(__name__)

App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]
]


class AsgiBridge:
    """Runs one application, a task for each request."""

    def __init__(self, app: App, date: HttpDate) -> None:
        self._app = app
        self._date = date
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, request: HttpRequest, exchange: Exchange) -> None:
        """Begin to answer."""
        task = asyncio.get_running_loop().create_task(self._run(request, exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        exchange.on_gone = task.cancel

    async def _run(self, request: HttpRequest, exchange: Exchange) -> None:
        status = 500
        headers: list[tuple[bytes, bytes]] = []
        body = bytearray()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message.get("headers", []))
            else:
                body.extend(message.get("body", b""))

        try:
            await self._app(scope_of(request, exchange), receive, send)
        except Exception:
            # Starlette raises a fault on after it has answered it.
            logger.exception("request failed", extra={"path": request.path[:128]})
        lines = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        if not any(name.lower() == "content-length" for name, _ in lines):
            lines.append(("content-length", str(len(body))))
        if exchange.is_draining or not request.keep_alive:
            lines.append(("connection", "close"))
        payload = b"" if request.method == "HEAD" else bytes(body)
        exchange.write(head(status, lines, self._date.line()) + payload)
        exchange.finish()


def scope_of(request: HttpRequest, exchange: Exchange) -> dict[str, Any]:
    """The request as ASGI describes one (ASGI HTTP specification 2.4)."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": request.version,
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode("utf-8", "surrogateescape"),
        "query_string": request.query,
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers.items()],
        "client": (exchange.peer, 0),
        "server": None,
    }
