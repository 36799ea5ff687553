"""The break-even, the breaker around Redis, and the keys of blocks."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.routing.breaker import BreakerState
from cluster.core.tier.break_even import GAIN_RATIO, BreakEven
from cluster.core.tier.breaker import COOL_DOWN_MAX_S, COOL_DOWN_S, TRIAL_S, TierBreaker
from cluster.core.tier.keys import NO_TAG, block_key, is_tag, pattern, tag_of

RATES = st.floats(min_value=1.0, max_value=1e6)
SECONDS = st.floats(min_value=1e-5, max_value=10.0)


def measured(
    *, prefill: float = 469.0, fetch: float = 527e6, latency_s: float = 0.001, bytes_per_token: float = 12_288.0
) -> BreakEven:
    made = BreakEven(bytes_per_token=bytes_per_token)
    made.prefilled(1000, 1000 / prefill)
    made.fetched(1_000_000, 1_000_000 / fetch)
    made.answered(latency_s)
    return made


def test_the_demo_model_breaks_even_at_once() -> None:
    """Its own figures: 469 tokens/s against 527 MB/s at 12 KiB a token."""
    even = measured()
    assert even.min_fetch_tokens(is_busy=False) == 1
    assert even.may_ask(3000, is_busy=False)
    state = even.state()
    assert state.fetch_bytes_per_s == pytest.approx(527e6)
    assert state.prefill_tokens_per_s == pytest.approx(469)


def test_nothing_measured_means_no_question() -> None:
    even = BreakEven(bytes_per_token=100.0)
    assert not even.may_ask(1_000_000, is_busy=False)
    even.fetched(1_000_000, 0.001)
    assert not even.may_ask(1_000_000, is_busy=False)
    even.expect_prefill(100.0)
    assert even.may_ask(1_000_000, is_busy=False)


def test_a_fetch_slower_than_the_computation_is_never_asked_for() -> None:
    even = measured(prefill=30_000, fetch=100e6, bytes_per_token=147_456)
    assert even.min_fetch_tokens(is_busy=False) is None
    assert not even.may_ask(1_000_000, is_busy=False)


def test_the_question_must_cost_little_of_the_computation() -> None:
    even = measured(prefill=30_000, fetch=10e9, latency_s=0.001)
    assert even.min_fetch_tokens(is_busy=False) is not None
    assert not even.may_ask(5_900, is_busy=False)
    assert even.may_ask(6_100, is_busy=False)


def test_a_busy_engine_raises_the_bar() -> None:
    even = measured()
    even.stepped(2.0)
    idle, busy = even.min_fetch_tokens(is_busy=False), even.min_fetch_tokens(is_busy=True)
    assert idle is not None
    assert busy is not None
    assert busy > 1000 > idle


def test_own_measurements_win_over_what_others_say() -> None:
    even = measured(prefill=100.0)
    even.expect_prefill(1e6)
    assert even.prefill_tokens_per_s == pytest.approx(100.0)


@given(
    RATES, st.floats(min_value=1e3, max_value=1e11), st.tuples(SECONDS, SECONDS), st.integers(1, 10**6), st.booleans()
)
def test_what_may_be_asked_for_is_expected_to_be_faster(
    prefill: float, fetch: float, waits: tuple[float, float], tokens: int, is_busy: bool
) -> None:
    latency_s, step_s = waits
    even = measured(prefill=prefill, fetch=fetch, latency_s=latency_s)
    even.stepped(step_s)
    if even.may_ask(tokens, is_busy=is_busy):
        fetch_s = even.fetch_s(tokens, is_busy=is_busy)
        assert fetch_s is not None
        assert fetch_s <= GAIN_RATIO * even.prefill_s(tokens) * 1.000001
        assert latency_s <= 0.01 * even.prefill_s(tokens)
        assert even.may_ask(2 * tokens, is_busy=is_busy)


@given(st.lists(st.tuples(st.integers(-5, 10**6), st.floats(-1.0, 100.0)), max_size=30))
def test_odd_measurements_do_no_harm(samples: list[tuple[int, float]]) -> None:
    even = BreakEven(bytes_per_token=12_288)
    for amount, seconds in samples:
        even.prefilled(amount, seconds)
        even.fetched(amount, seconds)
    assert even.prefill_s(1000) >= 0
    even.state()


def test_the_breaker_opens_at_once_and_lets_one_trial_through() -> None:
    breaker = TierBreaker()
    assert breaker.admits(0.0)
    breaker.failed(0.0)
    assert not breaker.admits(COOL_DOWN_S - 0.01)
    assert breaker.state(COOL_DOWN_S) is BreakerState.HALF_OPEN
    assert breaker.admits(COOL_DOWN_S)
    assert not breaker.admits(COOL_DOWN_S)
    breaker.answered()
    assert breaker.state(COOL_DOWN_S) is BreakerState.CLOSED


def test_failed_trials_come_ever_more_seldom() -> None:
    breaker, now_s, pauses = TierBreaker(), 0.0, []
    breaker.failed(now_s)
    for _ in range(8):
        began_s = now_s
        while not breaker.admits(now_s):
            now_s += 0.5
        pauses.append(now_s - began_s)
        breaker.failed(now_s)
    assert pauses == sorted(pauses)
    assert pauses[0] == COOL_DOWN_S
    assert pauses[-1] == COOL_DOWN_MAX_S
    assert breaker.opened == 1


def test_failures_under_way_do_not_lengthen_the_pause() -> None:
    breaker = TierBreaker()
    for at in range(5):
        breaker.failed(0.1 * at)
    assert breaker.admits(COOL_DOWN_S)
    assert not breaker.admits(COOL_DOWN_S + TRIAL_S - 0.1)
    assert breaker.admits(COOL_DOWN_S + TRIAL_S)


def test_tags_tell_salts_and_adapters_apart() -> None:
    tags = {tag_of(None), tag_of("a"), tag_of("b"), tag_of("a", "12345678ff"), tag_of("a", "99999999ff")}
    assert len(tags) == 5
    assert all(is_tag(tag) for tag in tags)
    assert tag_of("") == NO_TAG
    assert not any(is_tag(text) for text in ("", "zzzzzzzz", "00000000:", "00000000.1", None, 5, "0" * 9))


def test_a_pattern_finds_its_keys_and_no_others() -> None:
    keys = {
        (print_, salt): block_key(print_, tag_of(salt, adapter), b"\x00" * 36)
        for print_ in ("f" * 24, "e" * 24)
        for salt in (None, "a", "b")
        for adapter in ((None,) if salt else ("12345678",))
    }
    for (print_, salt), key in keys.items():
        found = pattern(fingerprint=print_, tenant_tag=tag_of(salt)).decode()
        assert [k for k in keys.values() if fnmatch.fnmatchcase(k.decode("latin-1"), found)] == [key]
    assert len([k for k in keys.values() if fnmatch.fnmatchcase(k.decode("latin-1"), pattern().decode())]) == 6
