"""Reads a request's body within its limits of size and patience.

What must not live here: what the bytes mean (decode.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.types import Receive

from cluster.config import LimitsSection
from services.rest.errors import Refusal, invalid

LINGER_S = 5.0
"""How long a body that is too large is still read and thrown away: most clients look for an answer only after their
last byte, and would see a broken connection instead of the 413."""
LINGER_FACTOR = 2
"""And how much of it, in limits."""
_CLOSE = (("connection", "close"),)


class ClientGoneError(Exception):
    """The client closed its connection; nobody is left to answer."""


async def read_body(receive: Receive, headers: Mapping[str, str], limits: LimitsSection) -> bytes | Refusal:
    """The whole body, or why it is not taken.

    Raises:
        ClientGoneError: the client left before its last byte.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        return invalid(
            f"The content encoding {encoding[:32]!r} is not taken: send the body as it is.",
            status=415,
            code="unsupported_encoding",
        )
    announced = headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limits.body_bytes:
        if "expect" not in headers:
            await _linger(receive, limits.body_bytes * LINGER_FACTOR)
        return _too_large(limits.body_bytes)
    body = bytearray()
    while True:
        try:
            async with asyncio.timeout(limits.client_stall_s):
                message = await receive()
        except TimeoutError:
            return Refusal(
                status=408,
                message=f"The body stopped arriving for {limits.client_stall_s:g} s.",
                code="client_stalled",
                headers=_CLOSE,
            )
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > limits.body_bytes:
            if message.get("more_body", False):
                await _linger(receive, limits.body_bytes * LINGER_FACTOR)
            return _too_large(limits.body_bytes)
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(limit_bytes: int) -> Refusal:
    return Refusal(
        status=413,
        message=f"The body is larger than {limit_bytes:,} bytes, the limit of this gateway.",
        code="body_too_large",
        headers=_CLOSE,
    )


async def _linger(receive: Receive, most_bytes: int) -> None:
    """Read on and forget, within bounds."""
    seen_bytes = 0
    try:
        async with asyncio.timeout(LINGER_S):
            while seen_bytes <= most_bytes:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                seen_bytes += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
