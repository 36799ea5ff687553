"""The gRPC client's errors, from what the gateway writes and from what anybody else may."""

from __future__ import annotations

import random

import grpc
import pytest

from cluster.core.errors import LongreachError
from services.api.refusals import full, invalid
from services.grpc.client.errors import DETAILS_KEY, FieldViolation, GrpcCallError, error_of, read_details
from services.grpc.status import trailers_of


class Failure:
    """What grpc raises, as far as it is read."""

    def __init__(self, code: grpc.StatusCode, details: str | None, trailers: object) -> None:
        self.code = lambda: code
        self.details = lambda: details
        self.trailing_metadata = lambda: trailers


def test_everything_that_a_gateway_says_is_read() -> None:
    refusal = invalid("Too hot.", param="messages[0].content", code="invalid_value")
    details = read_details(trailers_of(refusal, "req-1"), "sent")
    assert details.reason == "INVALID_VALUE"
    assert details.violations == (FieldViolation(field="messages[0].content", description="Too hot."),)
    assert details.request_id == "req-1"
    assert details.retry_after_s is None
    assert read_details(trailers_of(full(3), "req-1"), "sent").retry_after_s == 1.0


def test_an_error_is_one_of_longreachs_and_says_all_in_one_line() -> None:
    error = error_of(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "Full.", trailers_of(full(3), "req-1")), "sent")
    assert isinstance(error, LongreachError)
    assert str(error) == "RESOURCE_EXHAUSTED: Full. (request req-1)"
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "GATEWAY_FULL")


@pytest.mark.parametrize(
    "trailers", [None, (), (("other", "x"),), ((DETAILS_KEY, b"\xff\xff"),), ((DETAILS_KEY, "x"),)]
)
def test_whoever_is_no_gateway_tells_less(trailers: object) -> None:
    error = error_of(Failure(grpc.StatusCode.UNAVAILABLE, None, trailers), "sent")
    assert str(error) == "UNAVAILABLE: no reason was given (request sent)"
    assert (error.reason, error.violations, error.retry_after_s) == (None, (), None)


def test_damaged_details_never_raise() -> None:
    rng = random.Random(1)
    (_, whole), *_ = trailers_of(full(3), "req-1")
    assert isinstance(whole, bytes)
    for _ in range(2000):
        damaged = bytearray(whole[: rng.randrange(len(whole) + 1)])
        for _ in range(rng.randrange(4)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        read_details([(DETAILS_KEY, bytes(damaged))], "sent")


def test_errors_can_be_raised_without_a_request() -> None:
    with pytest.raises(GrpcCallError, match=r"^CANCELLED: gone$"):
        raise GrpcCallError(grpc.StatusCode.CANCELLED, "gone", read_details((), ""))
