"""A client that speaks HTTP/2 by hand, to send what no gRPC library would.

Frames as in RFC 9113, header fields as HPACK literals without indexing (RFC 7541, 6.2.2). What must not live here:
tests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING = 0, 1, 4, 6
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
FRAME_BYTES = 16_384


class RawConnection:
    """One connection; what the server sends is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.frames: list[tuple[int, int, int, bytes]] = []
        """Type, flags, stream and payload of every frame that came."""
        self.is_closed = False

    def call(self, stream: int, path: bytes, metadata: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Begin a call; its message comes by `message`."""
        fields = [
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"),
            (b"te", b"trailers"), (b"content-type", b"application/grpc"), *metadata,
        ]  # fmt: skip
        block = b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)
        self._frame(HEADERS, END_HEADERS, stream, block)

    def message(self, stream: int, payload: bytes, *, size: int | None = None, ends: bool = True) -> None:
        """Send a message, or only its beginning.

        Args:
            stream: the call.
            payload: what is sent of the message.
            size: the message's whole length, where that is more.
            ends: whether the request ends with it.
        """
        framed = b"\x00" + (len(payload) if size is None else size).to_bytes(4) + payload
        parts = [framed[at : at + FRAME_BYTES] for at in range(0, len(framed), FRAME_BYTES)]
        for part in parts[:-1]:
            self._frame(DATA, 0, stream, part)
        self._frame(DATA, END_STREAM if ends else 0, stream, parts[-1])

    def rest(self, stream: int, payload: bytes) -> None:
        """Send what is left of a message, and end the request."""
        self._frame(DATA, END_STREAM, stream, payload)

    def body(self, stream: int) -> bytes:
        """What has come of an answer, its framing included."""
        return b"".join(payload for kind, _, at, payload in self.frames if kind == DATA and at == stream)

    def has_headers(self, stream: int) -> bool:
        """Whether the server has answered a call, or ended it."""
        return any(kind == HEADERS and at == stream for kind, _, at, _ in self.frames)

    def settle(self, initial_window_bytes: int | None) -> None:
        """Begin the connection."""
        told = (
            b""
            if initial_window_bytes is None
            else (INITIAL_WINDOW_SIZE.to_bytes(2) + initial_window_bytes.to_bytes(4))
        )
        self._writer.write(PREFACE)
        self._frame(SETTINGS, 0, 0, told)

    async def read(self) -> None:
        """Take what comes, until the connection ends."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3]))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:])
                self.frames.append((kind, flags, stream, payload))
                if kind in {SETTINGS, PING} and not flags & ACK:
                    self._frame(kind, ACK, 0, payload if kind == PING else b"")
        self.is_closed = True

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self._writer.write(len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload)


def _string(value: bytes) -> bytes:
    """A string literal without Huffman coding."""
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest, length = len(value) - 127, b"\x7f"
    while rest >= 128:
        length += bytes([rest % 128 + 128])
        rest //= 128
    return length + bytes([rest]) + value


@asynccontextmanager
async def raw_http2(address: str, *, initial_window_bytes: int | None = None) -> AsyncIterator[RawConnection]:
    """Connect to `host:port`, with so much room for each stream of the server's."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = RawConnection(reader, writer)
    connection.settle(initial_window_bytes)
    reading = asyncio.create_task(connection.read())
    try:
        yield connection
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        writer.close()
