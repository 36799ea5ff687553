"""When the gRPC client tries again: only where it is safe, never past a bound, never earlier than it was told."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.grpc.client.errors import Details, GrpcCallError
from services.grpc.client.retry import ATTEMPTS_MAX, JITTER_RATIO, RetryPolicy, wait_before_next_s

EVER_S = 1e9
seconds = st.floats(0, 1000)
policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, ATTEMPTS_MAX),
    first_wait_s=st.floats(0.01, 10),
    longest_wait_s=st.floats(0.01, 100),
    longest_asked_s=seconds,
)
draws = st.floats(0, 1)


def failed(code: grpc.StatusCode, asked_s: float | None = None) -> GrpcCallError:
    return GrpcCallError(code, "told why", Details(retry_after_s=asked_s))


failures = st.builds(failed, st.sampled_from(list(grpc.StatusCode)), st.none() | seconds)


@given(policies, failures, st.integers(1, 20), seconds, draws)
def test_a_wait_ends_before_the_deadline_and_honours_what_was_asked(
    policy: RetryPolicy, failure: GrpcCallError, made: int, left_s: float, draw: float
) -> None:
    wait_s = wait_before_next_s(policy, failure, made=made, left_s=left_s, draw=draw)
    if wait_s is None:
        return
    asked_s = failure.retry_after_s or 0.0
    assert made < policy.attempts
    assert asked_s <= wait_s < left_s
    assert wait_s <= max(policy.longest_wait_s, policy.longest_asked_s) * (1 + JITTER_RATIO)
    assert failure.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED} or (
        failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED and failure.retry_after_s is not None
    )


@given(policies, st.integers(1, ATTEMPTS_MAX), draws)
def test_waits_grow(policy: RetryPolicy, made: int, draw: float) -> None:
    failure = failed(grpc.StatusCode.UNAVAILABLE)
    wait_s = wait_before_next_s(policy, failure, made=made, left_s=EVER_S, draw=draw)
    later_s = wait_before_next_s(policy, failure, made=made + 1, left_s=EVER_S, draw=draw)
    if wait_s is not None and later_s is not None:
        assert later_s >= wait_s


@pytest.mark.parametrize(
    ("code", "asked_s", "wait_s"),
    [
        (grpc.StatusCode.UNAVAILABLE, None, 0.2),
        (grpc.StatusCode.UNAVAILABLE, 5.0, 5.0),
        (grpc.StatusCode.UNAVAILABLE, 61.0, None),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 1.0, 1.0),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 0.0, 0.2),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, None, None),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 1.0, None),
        (grpc.StatusCode.INTERNAL, None, None),
        (grpc.StatusCode.UNKNOWN, None, None),
        (grpc.StatusCode.CANCELLED, None, 0.2),
        (grpc.StatusCode.INVALID_ARGUMENT, None, None),
    ],
)
def test_by_default(code: grpc.StatusCode, asked_s: float | None, wait_s: float | None) -> None:
    assert wait_before_next_s(RetryPolicy(), failed(code, asked_s), made=1, left_s=100, draw=0) == wait_s


@pytest.mark.parametrize("attempts", [0, ATTEMPTS_MAX + 1])
def test_a_policy_has_bounds(attempts: int) -> None:
    with pytest.raises(ValueError, match="attempts must be 1 to"):
        RetryPolicy(attempts=attempts)
