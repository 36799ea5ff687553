from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.stopping import LEAST, WINDOW_S, Recent, StopRules, verdict
from loadtest.record import Record
from tests.unit.loadtest.client.records import failed, good

ERRORS = StopRules(errors_ratio=0.1)
TTFT = StopRules(ttft_s=1.0)


def test_without_rules_nothing_ends_a_run() -> None:
    assert verdict(StopRules(), [failed()] * 100) == ""


@given(st.integers(0, 60), st.integers(0, 60))
def test_errors_end_a_run_when_their_share_is_over_the_limit(bad: int, fine: int) -> None:
    records = [failed()] * bad + [good()] * fine
    is_over = bad + fine >= LEAST and bad / (bad + fine) > 0.1
    assert bool(verdict(ERRORS, records)) is is_over


@given(st.lists(st.floats(0, 5), min_size=LEAST, max_size=80))
def test_late_first_tokens_end_a_run_when_p95_is_over_the_limit(ttfts: list[float]) -> None:
    found = verdict(TTFT, [good(ttft_s=one) for one in ttfts])
    measured = sorted(good(ttft_s=one).first_token_s - 1.0 for one in ttfts)  # type: ignore[operator]
    assert bool(found) is (measured[int(0.95 * len(measured))] > 1.0)


def test_a_run_says_why_it_ended() -> None:
    assert verdict(ERRORS, [failed()] * 30) == "100% of the requests of the last 10 s failed, over 10%"
    assert verdict(TTFT, [good(ttft_s=2.5)] * 30) == "TTFT of the last 10 s is 2.5 s at p95, over 1 s"


def test_the_window_forgets() -> None:
    recent = Recent()
    for at_s in range(30):
        recent.add(good(float(at_s), ttft_s=0.0))
    found: list[Record] = list(recent.until(30.0))
    assert [one.due_s for one in found] == [float(at_s) for at_s in range(30 - int(WINDOW_S), 30)]
