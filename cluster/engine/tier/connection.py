"""One connection to Redis for bulk data: RESP2, values received straight into the caller's memory, every wait bounded.

A stock client copies a value of 1.5 MiB several times, and takes the interpreter's lock for each piece that arrives;
here a value is one system call. Not thread-safe: one connection for one thread. What must not live here: what the
values mean (value.py), when to give Redis up (cluster/core/tier/breaker.py).
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn, Self
from urllib.parse import urlsplit

from cluster.core.errors import SetupError
from cluster.engine.tier.sockets import open_socket
from cluster.environment import read_environment
from cluster.state.passwords import read_password

CONNECT_S = 1.0
"""Redis is in the same cluster; who needs longer for a handshake counts as away."""
BUFFER_BYTES = 4096
"""Replies are read through this; what it holds of a value's beginning is the only part that is copied."""
LINE_BYTES_MAX = 1024
"""A reply's first line is a number or a short sentence."""
SCRATCH_BYTES = 1 << 16


class TierConnectionError(Exception):
    """Redis is away, too slow, or does not speak as it should: the connection is of no more use."""


class ReplyError(Exception):
    """Redis refused one command; the connection goes on."""

    @property
    def is_full(self) -> bool:
        """Whether its memory is full and it may not evict."""
        return str(self).startswith("OOM")

    @property
    def is_wrong_type(self) -> bool:
        """Whether something else than a string is under the key."""
        return str(self).startswith("WRONGTYPE")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """Where Redis is and how to log in. Holds names of secrets, never secrets: it travels in vLLM's arguments."""

    url: str
    user: str | None = None
    password_env: str | None = None
    password_file: str | None = None
    ca_file: str | None = None

    def as_mapping(self) -> dict[str, str]:
        """For vLLM's arguments."""
        return {name: text for name, text in asdict(self).items() if text is not None}

    def password(self) -> str | None:
        """The password, read now.

        Raises:
            TierConnectionError: it is not where it should be, or others can read its file.
        """
        try:
            return read_password(
                env=self.password_env,
                file=self.password_file,
                secret=read_environment().secret,
                key="redis.cache_password",
            )
        except SetupError as error:
            raise TierConnectionError(f"{error.problem}: {error.remedy}") from error


class Connection:
    """A connection that is open and logged in.

    Every method that waits takes a moment by `time.monotonic()` until which it may, and raises TierConnectionError
    after it.
    """

    def __init__(self, server: RedisServer, *, until_s: float | None = None) -> None:
        deadline_s = time.monotonic() + CONNECT_S if until_s is None else until_s
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = self._end = 0
        self._is_broken = False
        parts = urlsplit(server.url)
        try:
            self._socket, self._is_plain = open_socket(server.url, server.ca_file, until_s=deadline_s)
        except (OSError, ValueError) as error:
            raise TierConnectionError(f"{type(error).__name__}: {error}") from error
        try:
            self._greet(server, parts.path, deadline_s)
        except BaseException:
            self.close()
            raise

    def _greet(self, server: RedisServer, path: str, until_s: float) -> None:
        password = server.password()
        commands = []
        if password is not None:
            commands.append(encode(b"AUTH", *([server.user.encode()] if server.user else []), password.encode()))
        database = path.lstrip("/") if not server.url.startswith("unix:") else ""
        if database not in {"", "0"}:
            commands.append(encode(b"SELECT", database.encode()))
        for reply in self.ask(commands, until_s=until_s):
            if isinstance(reply, ReplyError):
                # Its sentence repeats a user's name at most, never a password.
                raise TierConnectionError(f"Redis does not let us in: {reply}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_usable(self) -> bool:
        """Whether the next command may go over it; to be asked where no reply is due.

        Redis hangs up when it restarts. Who finds that out by a command would think that it is away.
        """
        if not self._is_broken and not self._is_open():
            self.close()
        return not self._is_broken

    def _is_open(self) -> bool:
        if self._start != self._end:
            return False
        try:
            if not self._is_plain:
                self._socket.settimeout(0)
            # Not of SSLSocket, which takes no flags: only whether there is an end to be read.
            waiting = socket.socket.recv(self._socket, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        # With TLS its own messages may wait to be read; otherwise it is a reply that nobody asked for.
        return bool(waiting) and not self._is_plain

    def close(self) -> None:
        """Hang up."""
        self._is_broken = True
        self._socket.close()

    def ask(self, commands: Sequence[bytes], *, until_s: float) -> list[int | bytes | ReplyError | None]:
        """Send commands in one go and return their replies: numbers, strings, None, or refusals.

        Raises:
            TierConnectionError: Redis is away or took too long.
        """
        if not commands:
            return []
        self.send([b"".join(commands)], until_s=until_s)
        return [self.reply(until_s=until_s) for _ in commands]

    def send(self, parts: Sequence[bytes | memoryview], *, until_s: float) -> None:
        """Send these bytes, without joining them first.

        Raises:
            TierConnectionError: see above.
        """
        left = [memoryview(part) for part in parts if len(part)]
        while left:
            sent = self._call(self._send_some, left, until_s)
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if sent:
                left[0] = left[0][sent:]

    def _send_some(self, parts: list[memoryview]) -> int:
        if self._is_plain:
            return self._socket.sendmsg(parts[:64])
        return self._socket.send(parts[0])

    def reply(self, *, until_s: float) -> int | bytes | ReplyError | None:
        """The next reply; a string must be a short one.

        Raises:
            TierConnectionError: see above, or the reply is none of RESP2.
        """
        line = self._line(until_s)
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ReplyError(rest.decode("utf-8", "replace"))
        if kind == b":":
            return self._number(rest)
        if kind == b"$":
            size_bytes = self._number(rest)
            if size_bytes < 0:
                return None
            if size_bytes > SCRATCH_BYTES:
                self._fail(f"a string of {size_bytes} bytes where a short one was expected")
            text = bytearray(size_bytes)
            self.read_into(memoryview(text), until_s=until_s)
            self._skip_end(until_s)
            return bytes(text)
        return self._fail(f"a reply of unknown kind {kind!r}")

    def value_bytes(self, *, until_s: float) -> int | ReplyError | None:
        """The length of the next reply's value, whose bytes must be taken by `read_into` and `end_value`, or skipped.

        Raises:
            TierConnectionError: see above.
        """
        line = self._line(until_s)
        if line[:1] == b"-":
            return ReplyError(line[1:].decode("utf-8", "replace"))
        if line[:1] != b"$":
            self._fail(f"a reply of kind {line[:1]!r} where a value was expected")
        size_bytes = self._number(line[1:])
        return None if size_bytes < 0 else size_bytes

    def read_into(self, target: memoryview, *, until_s: float) -> None:
        """Fill `target` with the next bytes.

        Raises:
            TierConnectionError: see above.
        """
        held = min(len(target), self._end - self._start)
        if held:
            target[:held] = self._buffer[self._start : self._start + held]
            self._start += held
        while held < len(target):
            held += self._call(self._receive_all, target[held:], until_s)

    def skip(self, size_bytes: int, *, until_s: float) -> None:
        """Read and forget that many bytes.

        Raises:
            TierConnectionError: see above.
        """
        scratch = memoryview(bytearray(min(size_bytes, SCRATCH_BYTES)))
        while size_bytes:
            part = scratch[: min(size_bytes, len(scratch))]
            self.read_into(part, until_s=until_s)
            size_bytes -= len(part)

    def end_value(self, *, until_s: float) -> None:
        """Take the end of a value that `read_into` has taken whole.

        Raises:
            TierConnectionError: see above.
        """
        self._skip_end(until_s)

    def _skip_end(self, until_s: float) -> None:
        end = bytearray(2)
        self.read_into(memoryview(end), until_s=until_s)
        if end != b"\r\n":
            self._fail("a value that does not end where it should")

    def _line(self, until_s: float) -> bytes:
        while True:
            held = bytes(self._buffer[self._start : self._end])
            at = held.find(b"\r\n")
            if at >= 0:
                self._start += at + 2
                return held[:at]
            if len(held) > LINE_BYTES_MAX:
                self._fail("a reply without an end")
            self._buffer[: len(held)] = held
            self._start, self._end = 0, len(held)
            self._end += self._call(self._receive_some, self._buffer[self._end :], until_s)

    def _receive_some(self, target: memoryview) -> int:
        return self._socket.recv_into(target)

    def _receive_all(self, target: memoryview) -> int:
        """As much as there is time for, in one call without the interpreter's lock."""
        return self._socket.recv_into(target, 0, socket.MSG_WAITALL) if self._is_plain else self._receive_some(target)

    def _call(self, action: Callable[[Any], int], argument: Any, until_s: float) -> int:
        """One call on the socket, within the time that is left."""
        if self._is_broken:
            raise TierConnectionError("the connection was given up before")
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            self._fail("Redis took too long")
        try:
            self._bound(left_s)
            done = action(argument)
        except (BlockingIOError, TimeoutError):  # the kernel's way to say so, and Python's
            self._fail("Redis took too long")
        except (OSError, ValueError) as error:
            self.close()
            raise TierConnectionError(f"{type(error).__name__}: {error}") from error
        if not done:
            self._fail("Redis hung up")
        return done

    def _bound(self, left_s: float) -> None:
        if not self._is_plain:
            self._socket.settimeout(left_s)
            return
        # A timeout of Python's own would make the socket non-blocking, and a value several hundred system calls.
        wait = _timeval(left_s)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)

    def _number(self, text: bytes) -> int:
        try:
            return int(text)
        except ValueError:
            self._fail(f"{text[:20]!r} where a number was expected")

    def _fail(self, reason: str) -> NoReturn:
        self.close()
        raise TierConnectionError(reason)


def encode(*words: bytes) -> bytes:
    """One command."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def encode_set(key: bytes, head: bytes, payload: memoryview, ttl_s: int) -> list[bytes | memoryview]:
    """`SET key head+payload EX ttl_s` in parts, so that the payload is sent from where it is."""
    ttl = b"%d" % ttl_s
    start = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b" % (len(key), key, len(head) + len(payload), head)
    return [start, payload, b"\r\n$2\r\nEX\r\n$%d\r\n%b\r\n" % (len(ttl), ttl)]


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("@ll", whole, max(int((seconds - whole) * 1e6), 1))
