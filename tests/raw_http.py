"""A client that sees HTTP/1.1 as bytes: what was framed how, whether an answer ended or broke off, when.

What must not live here: anything that repairs or forgives; tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"
READ_S = 20.0
"""Longest wait for bytes of an answer; what should come sooner is asserted by the tests."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class HalfHeadError(Exception):
    """A connection ended inside an answer's head."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """One answer, as far as it came."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    is_complete: bool = False
    """Its own framing says that this was all."""

    def header(self, name: str) -> str | None:
        """The only header of this name; None without one."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True, kw_only=True)
class RawConnection:
    """One TCP connection to a gateway."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent_bytes: int = field(default=0)

    async def send(self, data: bytes) -> None:
        """Write; a peer that has closed is no error, its answer may still be here."""
        try:
            self.writer.write(data)
            await self.writer.drain()
            self.sent_bytes += len(data)
        except ConnectionError:
            pass

    async def ask(self, data: bytes, *, method: str = "POST") -> Answer:
        await self.send(data)
        answer = await self.answer(method=method)
        assert answer is not None, "closed without an answer"
        return answer

    async def answer(self, *, method: str = "POST", read_s: float = READ_S) -> Answer | None:
        """The next answer, 100 Continue included; None where the peer closed instead."""
        async with asyncio.timeout(read_s):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise HalfHeadError(error.partial) from error
                return None
            except ConnectionError:
                return None
            answer = _head(head)
            if answer.status < 200 or answer.status in {204, 304} or method == "HEAD":
                answer.is_complete = True
                return answer
            await self._body(answer)
            return answer

    async def all_answers(self, *, read_s: float = READ_S) -> list[Answer]:
        """Every answer until the peer closes."""
        found = []
        async with asyncio.timeout(read_s):
            while (answer := await self.answer(read_s=read_s)) is not None:
                found.append(answer)
                if not answer.is_complete:
                    break
        return found

    async def is_closed(self, within_s: float) -> bool:
        """Whether the peer closes, saying nothing more."""
        try:
            async with asyncio.timeout(within_s):
                return await self.reader.read(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        with contextlib.suppress(OSError):  # the peer may have closed already
            self.writer.write_eof()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Leave as a killed client does."""
        connection: socket.socket = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError):  # the peer may have closed already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.writer.transport.abort()

    async def _body(self, answer: Answer) -> None:
        length = answer.header("content-length")
        try:
            if answer.header("transfer-encoding") == "chunked":
                assert length is None, "both framings in one answer"
                await self._chunks(answer)
            elif length is not None:
                await self._exactly(answer, int(length))
            else:
                answer.body = await self.reader.read()
                answer.is_complete = answer.header("connection") == "close"
        except (asyncio.IncompleteReadError, ConnectionError):
            answer.is_complete = False

    async def _exactly(self, answer: Answer, length: int) -> None:
        while len(answer.body) < length:
            part = await self.reader.read(length - len(answer.body))
            if not part:
                return
            answer.body += part
        answer.is_complete = True

    async def _chunks(self, answer: Answer) -> None:
        while True:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
            assert data.endswith(b"\r\n"), "a chunk that does not end"
            if size == 0:
                answer.is_complete = True
                return
            answer.body += data[:-2]


def _head(head: bytes) -> Answer:
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version in {"HTTP/1.1", "HTTP/1.0"}, first
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Answer(status=int(status), headers=headers)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[RawConnection]:
    """A connection that writes at once, without waiting to fill packets."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=2**24)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield RawConnection(reader=reader, writer=writer)
    finally:
        writer.transport.abort()


def request(path: str, body: object, **headers: str) -> bytes:
    """A well-formed POST; `body` is JSON to be written, or bytes as they are. Underscores in names become dashes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: gateway", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(raw)}", "", ""]
    return "\r\n".join(lines).encode() + raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One server-sent event."""

    name: str
    data: Any
    """Decoded JSON, or the string [DONE]."""


def events_of(stream: bytes) -> list[Event]:
    """The events of a stream; comments are left out. Fails where an event is cut or is no JSON."""
    assert stream == b"" or stream.endswith(b"\n\n"), f"half an event at the end: {stream[-80:]!r}"
    found = []
    for block in stream.replace(b"\r\n", b"\n").split(b"\n\n"):
        name, data = "", []
        for line in block.decode().split("\n"):
            field_name, _, value = line.partition(":")
            if field_name == "event":
                name = value.removeprefix(" ")
            elif field_name == "data":
                data.append(value.removeprefix(" "))
            else:
                assert field_name == "", f"no field of an event: {line!r}"
        if data:
            text = "\n".join(data)
            found.append(Event(name=name, data=text if text == "[DONE]" else json.loads(text)))
    return found
