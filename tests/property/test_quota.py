"""GCRA, for every sequence of requests there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.core.quota import (
    BURST_US,
    MINUTE_US,
    Cost,
    LimitKind,
    Meter,
    Refused,
    correction_us,
    cost_of,
    is_limited,
    settle,
    take,
)
from cluster.core.tenant import Tenant, TenantName

START_US = 1_790_000_000_000_000
PAUSES = st.one_of(st.integers(0, 1000), st.integers(0, 3 * MINUTE_US))
TOKENS = st.one_of(st.integers(0, 50), st.integers(0, 300_000))
ARRIVALS = st.lists(st.tuples(PAUSES, TOKENS), max_size=60)
LIMITS = st.one_of(st.none(), st.integers(1, 100), st.integers(1, 10_000_000))


def tenant(requests: int | None, tokens: int | None) -> Tenant:
    return Tenant(name=TenantName("t"), requests_per_minute=requests, tokens_per_minute=tokens)


def admitted(who: Tenant, arrivals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """When each admitted request came, and its tokens."""
    meter, now_us, found = Meter(), START_US, []
    for pause_us, tokens in arrivals:
        now_us += pause_us
        after = take(meter, cost_of(who, tokens), now_us)
        if isinstance(after, Meter):
            meter = after
            found.append((now_us, tokens))
    return found


@given(requests=LIMITS, tokens=LIMITS, arrivals=ARRIVALS)
def test_no_window_holds_more_than_its_limit_and_one_burst(
    requests: int | None, tokens: int | None, arrivals: list[tuple[int, int]]
) -> None:
    found = admitted(tenant(requests, tokens), arrivals)
    for first in range(len(found)):
        for last in range(first, len(found)):
            window = found[first : last + 1]
            minutes = (window[-1][0] - window[0][0] + BURST_US) / MINUTE_US
            if requests is not None:
                assert len(window) <= requests * minutes + 1e-6
            if tokens is not None:
                # One request above the whole burst passes alone, and is paid for afterwards.
                largest = max(taken for _, taken in window)
                over = max(0, largest - tokens * BURST_US / MINUTE_US)
                assert sum(taken for _, taken in window) <= tokens * minutes + over + 1e-3


@given(requests=LIMITS, tokens=LIMITS, arrivals=ARRIVALS, wanted=TOKENS)
def test_waiting_as_told_is_enough_and_not_too_long(
    requests: int | None, tokens: int | None, arrivals: list[tuple[int, int]], wanted: int
) -> None:
    who = tenant(requests, tokens)
    meter, now_us = Meter(), START_US
    for pause_us, taken in arrivals:
        now_us += pause_us
        after = take(meter, cost_of(who, taken), now_us)
        meter = after if isinstance(after, Meter) else meter
    cost = cost_of(who, wanted)
    answer = take(meter, cost, now_us)
    if isinstance(answer, Refused):
        then_us = now_us + round(answer.retry_after_s * 1_000_000)
        assert isinstance(take(meter, cost, then_us), Meter)
        assert isinstance(take(meter, cost, then_us - 1), Refused)
        assert (requests if answer.limit is LimitKind.REQUESTS else tokens) is not None


@given(tokens=st.integers(1, 10_000_000), arrivals=ARRIVALS, charged=TOKENS, actual=TOKENS)
def test_settling_is_as_if_the_exact_figure_had_been_charged(
    tokens: int, arrivals: list[tuple[int, int]], charged: int, actual: int
) -> None:
    who = tenant(None, tokens)
    meter, now_us = Meter(), START_US
    for pause_us, taken in arrivals:
        now_us += pause_us
        after = take(meter, cost_of(who, taken), now_us)
        meter = after if isinstance(after, Meter) else meter
    guessed = take(meter, cost_of(who, charged), now_us)
    exact = take(meter, cost_of(who, actual), now_us)
    if isinstance(guessed, Meter) and isinstance(exact, Meter):
        settled = settle(guessed, correction_us(who, charged, actual), now_us)
        assert settled == exact


@given(tokens=st.integers(1, 1000), refund=TOKENS, charged=TOKENS, later_us=PAUSES)
def test_a_refund_never_earns_more_than_one_burst(tokens: int, refund: int, charged: int, later_us: int) -> None:
    who = tenant(None, tokens)
    after = take(Meter(), cost_of(who, charged), START_US)
    assert isinstance(after, Meter)
    settled = settle(after, correction_us(who, refund, 0), START_US + later_us)
    assert settled.tokens_us >= START_US + later_us
    full = take(settled, cost_of(who, tokens), START_US + later_us)
    assert isinstance(full, Refused) or isinstance(take(full, cost_of(who, 1), START_US + later_us), Refused)


@given(requests=LIMITS, tokens=LIMITS, taken=TOKENS, busy=st.sampled_from(LimitKind))
def test_a_limit_that_is_full_refuses_whatever_the_other_says(
    requests: int | None, tokens: int | None, taken: int, busy: LimitKind
) -> None:
    cost = cost_of(tenant(requests, tokens), taken)
    full_us = START_US + BURST_US + 1
    meter = Meter(requests_us=full_us) if busy is LimitKind.REQUESTS else Meter(tokens_us=full_us)
    counts = cost.requests_us if busy is LimitKind.REQUESTS else cost.tokens_us
    answer = take(meter, cost, START_US)
    assert isinstance(answer, Refused) == bool(counts)
    assert not isinstance(answer, Refused) or answer.limit is busy


@given(requests=st.integers(1, 1000), sharers=st.integers(1, 64))
def test_shares_together_are_at_most_the_limit(requests: int, sharers: int) -> None:
    who = tenant(requests, None)
    passed = 0
    for _ in range(sharers):
        meter = Meter()
        for _ in range(requests + 1):
            after = take(meter, cost_of(who, 0, sharers=sharers), START_US)
            if isinstance(after, Refused):
                break
            meter = after
            passed += 1
    # A share below one request still admits one, or a small tenant would be locked out in an outage.
    assert passed <= max(requests, sharers)


def test_no_limit_costs_nothing() -> None:
    assert not is_limited(tenant(None, None))
    assert cost_of(tenant(None, None), 10**9) == Cost(requests_us=0, tokens_us=0)
    assert is_limited(tenant(1, None))
    assert is_limited(tenant(None, 1))


def test_a_minutes_limit_may_come_at_once_and_then_it_drips() -> None:
    who = tenant(60, None)
    assert len(admitted(who, [(0, 0)] * 100)) == 60
    assert len(admitted(who, [(0, 0)] * 60 + [(1_000_000, 0)] * 5)) == 65
    assert len(admitted(who, [(0, 0)] * 60 + [(999_999, 0)])) == 60


def test_a_prompt_above_the_burst_passes_alone_and_is_paid_for() -> None:
    who = tenant(None, 1000)
    after = take(Meter(), cost_of(who, 5000), START_US)
    assert isinstance(after, Meter)
    refusal = take(after, cost_of(who, 1000), START_US)
    assert isinstance(refusal, Refused)
    assert (refusal.retry_after_s, refusal.limit) == (300.0, LimitKind.TOKENS)
