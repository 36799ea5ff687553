"""A witness behind a gateway: an engine that forgives nothing, and remembers every byte-exact request it was sent.

What reaches it twice, in pieces, or framed in a way that could be read differently is a fault of the gateway. What must
not live here: faults of its own (fake_engine.py).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\x20-\x7e]*)\Z")
PROBE = b"GET /v1/models HTTP/1.1"


class ViolationError(Exception):
    """The gateway sent what no client of an engine should send."""


@dataclass(slots=True, kw_only=True)
class StrictEngine:
    """What the gateway sent."""

    bodies: list[dict[str, Any]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def prompts(self) -> list[str]:
        """The words of every request's last message, in the order they came."""
        return [body["messages"][-1]["content"] for body in self.bodies]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head[:-4], reader))
                await writer.drain()
        except ViolationError as error:
            self.violations.append(str(error))
        except asyncio.IncompleteReadError as error:
            if error.partial:
                self.violations.append(f"a connection ended after {error.partial!r}")
        except ConnectionError:
            pass  # the gateway aborts a request whose client has left
        finally:
            writer.close()

    async def _answer(self, head: bytes, reader: asyncio.StreamReader) -> bytes:
        first, *lines = head.split(b"\r\n")
        if first == PROBE:
            return _whole({"object": "list", "data": []})
        headers = _headers(lines)
        if first != b"POST /v1/chat/completions HTTP/1.1":
            raise ViolationError(f"request line {first!r}")
        try:
            length = int(headers[b"content-length"])
        except (KeyError, ValueError) as error:
            raise ViolationError(f"framing in {headers!r}") from error
        if b"transfer-encoding" in headers or b"host" not in headers:
            raise ViolationError(f"framing in {headers!r}")
        body = json.loads(await reader.readexactly(length))
        self.bodies.append(body)
        said = {"role": "assistant", "content": body["messages"][-1]["content"]}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choices = [{"index": 0, "message": said, "finish_reason": "stop"}]
        return _whole(
            {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": usage}
        )


def _headers(lines: list[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for line in lines:
        match = HEADER_LINE.match(line)
        if match is None:
            raise ViolationError(f"header line {line!r}")
        name = match[1].lower()
        if name in found:
            raise ViolationError(f"two {name!r}")
        found[name] = match[2]
    return found


def _whole(data: dict[str, Any]) -> bytes:
    body = json.dumps(data).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@asynccontextmanager
async def serve_strict() -> AsyncIterator[StrictEngine]:
    """Run one on a loopback port."""
    engine = StrictEngine()
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0, limit=2**20)
    engine.port = server.sockets[0].getsockname()[1]
    try:
        yield engine
    finally:
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None
