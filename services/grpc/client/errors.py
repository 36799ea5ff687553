"""How a call fails, read from what gRPC says of it.

    LongreachError
    ├── SetupError         the client cannot be made, or the call not sent, as it was asked for
    └── GrpcCallError      the call ended without its answer, or without the rest of it

The details' forms are those of google/rpc/error_details.proto; services/grpc/status.py writes them. What must not live
here: what to do about a failure (retry.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from cluster.core.errors import LongreachError

DETAILS_KEY = "grpc-status-details-bin"
NANOSECONDS = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """What is wrong with one field of the request."""

    field: str
    """Its path, as `messages[1].content`."""
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a status says beyond its code and sentence; a gateway fills all that apply, a proxy none."""

    reason: str | None = None
    """REST's `code` in capitals, as MODEL_NOT_FOUND."""
    violations: tuple[FieldViolation, ...] = ()
    retry_after_s: float | None = None
    request_id: str | None = None
    """Under which the gateway's logs have the request."""


class GrpcCallError(LongreachError):
    """A call ended without its answer, or without the rest of it."""

    def __init__(self, code: grpc.StatusCode, message: str, details: Details) -> None:
        self.code = code
        self.message = message
        self.reason = details.reason
        self.violations = details.violations
        self.retry_after_s = details.retry_after_s
        self.request_id = details.request_id
        named = f" (request {details.request_id})" if details.request_id else ""
        super().__init__(f"{code.name}: {message}{named}")


def error_of(failure: Any, request_id: str) -> GrpcCallError:
    """The error in what grpc raised.

    Args:
        failure: a `grpc.RpcError` that is a call, or a `grpc.aio.AioRpcError`.
        request_id: what the client sent; who fails without having reached a gateway tells none.
    """
    details = read_details(failure.trailing_metadata() or (), request_id)
    return GrpcCallError(failure.code(), failure.details() or "no reason was given", details)


def read_details(trailers: Iterable[tuple[str, str | bytes]], request_id: str) -> Details:
    """The details in a call's trailing metadata; never raises on any bytes.

    Args:
        trailers: name and value of each.
        request_id: where they name none.
    """
    raw = next((value for name, value in trailers if name == DETAILS_KEY), b"")
    kinds = {kind.DESCRIPTOR.full_name: kind for kind in _KINDS}
    found: dict[str, Any] = {}
    try:
        for detail in status_pb2.Status.FromString(raw).details:
            kind = kinds.get(detail.TypeName())
            if kind is not None:
                found[kind.DESCRIPTOR.name] = kind.FromString(detail.value)
    except (DecodeError, TypeError):
        return Details(request_id=request_id)
    info, request, bad, retry = (found.get(kind.DESCRIPTOR.name) for kind in _KINDS)
    violations = bad.field_violations if bad else ()
    return Details(
        reason=info.reason if info else None,
        violations=tuple(FieldViolation(field=one.field, description=one.description) for one in violations),
        retry_after_s=_seconds(retry.retry_delay) if retry else None,
        request_id=(request.request_id if request else "") or request_id,
    )


def _seconds(delay: Any) -> float:
    return max(0.0, float(delay.seconds + delay.nanos / NANOSECONDS))


_KINDS = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.RequestInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
)
