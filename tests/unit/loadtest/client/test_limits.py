from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.health import quantile
from loadtest.client.limits import merged, warnings
from tests.unit.loadtest.client.records import failed, good

FINE = {"lag_p99_s": 0.001, "late_p99_s": 0.002, "cpu_ratio": 0.4, "processes": 1.0}


def test_of_several_processes_the_worst_counts() -> None:
    found = merged([{"lag_p99_s": 0.1, "cpu_ratio": 0.2}, {"lag_p99_s": 0.05, "cpu_ratio": 0.9}])
    assert found == {"cpu_ratio": 0.9, "lag_p99_s": 0.1, "processes": 2.0}


def test_a_client_that_kept_up_is_not_warned_of() -> None:
    assert warnings(FINE, [good(), failed()]) == ()


@pytest.mark.parametrize(
    ("figure", "value", "word"),
    [("lag_p99_s", 0.02, "20.0 ms late"), ("late_p99_s", 0.5, "500.0 ms late"), ("cpu_ratio", 0.95, "95% of a core")],
)
def test_a_client_at_its_limits_is_warned_of(figure: str, value: float, word: str) -> None:
    (found,) = warnings(FINE | {figure: value}, [good()])
    assert word in found
    assert "--processes" in found


def test_a_client_that_is_late_and_idle_has_too_busy_a_machine() -> None:
    (found,) = warnings(FINE | {"cpu_ratio": 0.05, "lag_p99_s": 0.06}, [good()])
    assert "a machine of its own" in found


def test_sessions_that_were_not_sent_are_warned_of() -> None:
    (found,) = warnings(FINE, [failed(error="client", code="in_flight_max")] * 3)
    assert found.startswith("3 sessions")
    assert warnings(FINE, [failed(error="client", code="stopped")]) == ()


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_one_of_the_values_and_parts_them(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    below = sum(value < found for value in values)
    assert below <= share * len(values) + 1e-9


def test_of_nothing_the_quantile_is_zero() -> None:
    assert quantile([], 0.5) == 0.0
