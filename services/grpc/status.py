"""A refusal as a gRPC status with google.rpc details: the one mapping.

The details' forms are those of google/rpc/error_details.proto; what each code promises is in gRPC's
doc/statuscodes.md. What must not live here: which refusal (services/api/refusals.py).
"""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from services.api.refusals import Refusal
from services.grpc.decode import field_path

DOMAIN = "longreach"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""What gRPC's own retries obey (gRFC A6); without it they follow their own policy."""
UNNAMED = "unspecified"
MESSAGE_BYTES_MAX = 1000
"""It travels three times in the trailers, once percent-encoded to up to three times its size; clients bound those to
8 KiB."""

_CODES = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.DEADLINE_EXCEEDED,
    409: StatusCode.FAILED_PRECONDITION,
    429: StatusCode.RESOURCE_EXHAUSTED,
    499: StatusCode.CANCELLED,
    501: StatusCode.UNIMPLEMENTED,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
_SERVER_ERRORS = 500


def code_of(refusal: Refusal) -> StatusCode:
    """The status code; of an HTTP status that has none of its own, INVALID_ARGUMENT below 500 and INTERNAL from it."""
    found = _CODES.get(refusal.status)
    if found is not None:
        return found
    return StatusCode.INTERNAL if refusal.status >= _SERVER_ERRORS else StatusCode.INVALID_ARGUMENT


def message_of(refusal: Refusal) -> str:
    """Its sentence, as long as trailers allow."""
    return refusal.message.encode("utf-8", "replace")[:MESSAGE_BYTES_MAX].decode("utf-8", "ignore")


def reason_of(refusal: Refusal) -> str:
    """ErrorInfo's reason: REST's `code` in capitals."""
    return (refusal.code or UNNAMED).upper()


def trailers_of(refusal: Refusal, request_id: str) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata of a refused request.

    Args:
        refusal: why.
        request_id: under which the gateway's logs have it.
    """
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=reason_of(refusal), domain=DOMAIN),
        error_details_pb2.RequestInfo(request_id=request_id),
    ]
    if refusal.param is not None and code_of(refusal) is StatusCode.INVALID_ARGUMENT:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=field_path(refusal.param), description=message_of(refusal)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    trailers: list[tuple[str, str | bytes]] = []
    if refusal.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromSeconds(refusal.retry_after_s)
        details.append(retry)
        trailers.append((PUSHBACK_KEY, str(refusal.retry_after_s * 1000)))
    packed = []
    for detail in details:
        one = AnyMessage()
        one.Pack(detail)
        packed.append(one)
    status = status_pb2.Status(code=code_of(refusal).value[0], message=message_of(refusal), details=packed)
    return ((DETAILS_KEY, status.SerializeToString()), *trailers)
