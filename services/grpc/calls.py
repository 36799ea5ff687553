"""Calls from their acceptance to their last byte: receiving their message, ending them, waiting for all of them.

Every method is registered as one that reads a stream, so that its handler runs before the message is here: who asks is
known first, and a message that stops arriving has a limit. On the wire there is no difference. What must not live here:
services.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol

import grpc

from services.api.refusals import Refusal, invalid, unreceived
from services.grpc.status import code_of, message_of, trailers_of

ABORT_S = 5.0
"""How long a refusal may wait behind what a client has not read; after it the call is left to its connection's end."""


class Context(Protocol):
    """The part of `grpc.aio.ServicerContext` that is used here."""

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]] | None:
        """What the client sent, names in lower case."""
        ...

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """What TLS says of the client."""
        ...

    def time_remaining(self) -> float | None:
        """Seconds until the client's deadline."""
        ...

    def set_compression(self, compression: Any) -> None:
        """Compress what is sent from now on; before initial metadata."""
        ...

    def add_done_callback(self, callback: Any) -> None:
        """Called with the context once the call has ended, its status sent."""
        ...

    async def read(self) -> Any:
        """The next message, or `grpc.aio.EOF`."""
        ...

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Send it, once, before the first message."""
        ...

    async def write(self, message: Any) -> None:
        """Send one message; returns when the client's flow control has let it go."""
        ...

    async def abort(self, code: Any, details: str, trailing_metadata: Any) -> Any:
        """End the call with an error; raises `grpc.aio.AbortError`."""
        ...


class Calls:
    """Those under way; what watches for ever (health, reflection) is not counted."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def begin(self, context: Context) -> None:
        """A call was accepted."""
        self._count += 1
        self._none.clear()
        context.add_done_callback(self._ended)

    async def ended(self) -> None:
        """Wait until none is left."""
        await self._none.wait()

    def _ended(self, _context: object) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()


def metadata_of(context: Context) -> dict[str, str]:
    """The client's metadata that is printable ASCII, as gRPC's rules have it; of a name that came twice, the last.

    gRPC does not check what it receives, and some of this becomes header lines for engines.
    """
    return {
        key: value
        for key, value in context.invocation_metadata() or ()
        if isinstance(value, str) and value.isascii() and value.isprintable()
    }


def certificate_of(context: Context) -> str | None:
    """The common name in the client's certificate; None where TLS asked for none."""
    names = context.auth_context().get("x509_common_name")
    return names[0].decode("utf-8", "replace") if names else None


async def receive(context: Context, limit_s: float) -> bytes | Refusal:
    """The call's one message.

    Args:
        context: the call.
        limit_s: the longest it may take to arrive.
    """
    try:
        async with asyncio.timeout(limit_s):
            raw = await context.read()
    except TimeoutError:
        return unreceived(limit_s)
    return raw if isinstance(raw, bytes) else invalid("The call carries no message.", code="invalid_message")


async def abort(context: Context, refusal: Refusal, request_id: str) -> NoReturn:
    """End a call with a refusal.

    Raises:
        grpc.aio.AbortError: what runs the service expects it.
        asyncio.CancelledError: the client has left, or reads nothing.
    """
    try:
        async with asyncio.timeout(ABORT_S):
            await context.abort(code_of(refusal), message_of(refusal), trailers_of(refusal, request_id))
    except (grpc.aio.InternalError, TimeoutError):
        # Nobody is there to be told; gRPC would log it as a fault.
        raise asyncio.CancelledError from None
    raise AssertionError("an aborted call goes on")
