"""Opening a socket to Redis: TCP, TLS or a Unix socket, with buffers for bulk data.

What must not live here: RESP, passwords (connection.py).
"""

from __future__ import annotations

import socket
import ssl
import time
from urllib.parse import unquote, urlsplit

DEFAULT_PORT = 6379
SOCKET_BUFFER_BYTES = 4 << 20


def open_socket(url: str, ca_file: str | None, *, until_s: float) -> tuple[socket.socket, bool]:
    """A connected socket, blocking, and whether its bytes go over the wire as they are.

    Args:
        url: `redis://host:port`, `rediss://host:port` for TLS, or `unix:///path`.
        ca_file: who may have signed the server's certificate; None for whom this machine trusts.
        until_s: a moment by `time.monotonic()`.

    Raises:
        OSError: nobody answers there, or its certificate is not good.
        ValueError: the address is none.
    """
    parts, left_s = urlsplit(url), max(until_s - time.monotonic(), 0.001)
    if parts.scheme == "unix":
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plain.settimeout(left_s)
        try:
            plain.connect(unquote(parts.path))
        except OSError:
            plain.close()
            raise
    elif parts.scheme in {"redis", "rediss"}:
        plain = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or DEFAULT_PORT), timeout=left_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        raise ValueError(f"a Redis address starts with redis://, rediss:// or unix://, not with {parts.scheme}://")
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        plain.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    if parts.scheme != "rediss":
        plain.settimeout(None)
        return plain, True
    try:
        return ssl.create_default_context(cafile=ca_file).wrap_socket(plain, server_hostname=parts.hostname), False
    except OSError:
        plain.close()
        raise
