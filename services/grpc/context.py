"""What the services read of a call, and how they end it with a refusal.

What must not live here: services.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, Protocol

import grpc

from services.api.refusals import Refusal
from services.grpc.status import MESSAGE_CHARS_MAX, code_of, trailers_of


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

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Send it, once, before the first message."""
        ...

    async def write(self, message: Any) -> None:
        """Send one message; returns when the client's flow control has let it go."""
        ...

    async def abort(self, code: Any, details: str, trailing_metadata: Any) -> Any:
        """End the call with an error; raises `grpc.aio.AbortError`."""
        ...


def metadata_of(context: Context) -> dict[str, str]:
    """The client's metadata that is text; of a name that came twice, the last."""
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def certificate_of(context: Context) -> str | None:
    """The common name in the client's certificate; None where TLS asked for none."""
    names = context.auth_context().get("x509_common_name")
    return names[0].decode("utf-8", "replace") if names else None


async def abort(context: Context, refusal: Refusal, request_id: str) -> NoReturn:
    """End a call with a refusal.

    Raises:
        grpc.aio.AbortError: what runs the service expects it.
        asyncio.CancelledError: the client has left.
    """
    try:
        await context.abort(code_of(refusal), refusal.message[:MESSAGE_CHARS_MAX], trailers_of(refusal, request_id))
    except grpc.aio.InternalError:
        # Nobody is there to be told; gRPC would log it as a fault.
        raise asyncio.CancelledError from None
    raise AssertionError("an aborted call goes on")
