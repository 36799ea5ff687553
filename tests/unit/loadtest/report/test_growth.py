"""How fast memory grows."""

from __future__ import annotations

import pytest

from loadtest.report.growth import growths

HOUR_S = 3600.0


def samples(count: int, per_h: float, *, spike: bool = False) -> list[dict[str, float]]:
    made = [{"at_s": place * 60.0, "gateway_bytes": 1e8 + per_h * place / 60} for place in range(count)]
    if spike:
        made[count // 2]["gateway_bytes"] *= 10
    return made


@pytest.mark.parametrize("count", [20, 5_00])
@pytest.mark.parametrize("spike", [False, True])
def test_the_slope_is_found_and_a_spike_does_not_move_it(count: int, spike: bool) -> None:
    (found,) = growths(samples(count, 3e6, spike=spike), 0.0)
    assert found.name == "gateway_bytes"
    assert found.bytes_per_h == pytest.approx(3e6, rel=1e-6)
    assert found.first_bytes == 1e8


def test_the_warm_up_does_not_count() -> None:
    rising = [{"at_s": 60.0 * place, "a_bytes": float(min(place, 50))} for place in range(100)]
    (found,) = growths(rising, 3_000.0)
    assert found.bytes_per_h == 0


def test_few_samples_and_other_figures_are_passed_over() -> None:
    assert growths(samples(5, 1.0), 0.0) == ()
    assert growths([{"at_s": float(place), "queued": 1.0} for place in range(50)], 0.0) == ()
    assert growths([], 0.0) == ()


def test_a_few_minutes_say_nothing_of_an_hour() -> None:
    assert growths([{"at_s": float(place), "a_bytes": 1.0} for place in range(300)], 0.0) == ()
