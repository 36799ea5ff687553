"""Bytes of an answer's head and of its chunks.

What must not live here: which headers an answer has.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from http import HTTPStatus

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
LAST_CHUNK = b"0\r\n\r\n"


class HttpDate:
    """The Date header's line, made once a second (RFC 9110, 6.6.1)."""

    __slots__ = ("_line", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        """`date: …` with its line end."""
        now = int(time.time())
        if now != self._second:
            self._second = now
            self._line = time.strftime("date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(now)).encode()
        return self._line


def head(status: int, headers: Iterable[tuple[str, str]], date: bytes = b"") -> bytes:
    """Status line, headers, blank line. Values are Latin-1; what is not becomes `?`.

    Header names and values must not contain line ends; who builds them sees to that.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    return b"".join((status_line(status), date, lines.encode("latin-1", "replace"), b"\r\n"))


def status_line(status: int) -> bytes:
    """The first line of an answer; unknown statuses have no phrase."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def chunk(data: bytes) -> bytes:
    """`data` as one chunk (RFC 9112, 7.1); it must not be empty, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
