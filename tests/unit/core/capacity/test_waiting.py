"""Waiting, against values that are in every textbook."""

from __future__ import annotations

from math import exp, inf

import pytest

from cluster.core.capacity.waiting import erlang_c, waiting


@pytest.mark.parametrize(
    ("servers", "load", "waits"),
    [
        (1, 0.5, 0.5),  # M/M/1: the load itself
        (1, 0.9, 0.9),
        (2, 1.0, 1 / 3),  # by hand: 1/2 / (1 + 1 + 1) ... = 1/3
        (3, 2.0, 4 / 9),
        (10, 8.0, 0.4092),  # Erlang C tables
    ],
)
def test_erlang_c(servers: int, load: float, waits: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(waits, abs=1e-4)


@pytest.mark.parametrize(
    ("servers", "load", "waits"),
    # Erlang's C; M/M/1 waits with the chance of being busy, the others are from tables.
    [(1, 0.5, 0.5), (3, 2.0, 0.4444), (5, 4.0, 0.5541), (10, 8.0, 0.4092)],
)
def test_the_mean_wait_is_that_of_m_m_n(servers: int, load: float, waits: float) -> None:
    found = waiting(arrivals_per_s=load / 2.0, service_s=2.0, service_cv2=1.0, servers=servers)
    assert found.mean_of_all_s == pytest.approx(waits * 2.0 / (servers - load), rel=1e-3)


def test_nobody_keeps_up_with_more_than_all_can_do() -> None:
    assert waiting(arrivals_per_s=3.0, service_s=1.0, service_cv2=1.0, servers=3).mean_of_all_s == inf


def test_one_server_waits_as_pollaczek_and_khinchine_say() -> None:
    """M/G/1: mean wait is rate x mean of squares / (2 x (1 - load))."""
    rate, service_s, cv2 = 0.5, 1.2, 3.0
    found = waiting(arrivals_per_s=rate, service_s=service_s, service_cv2=cv2, servers=1)
    square_s2 = service_s**2 * (1 + cv2)
    assert found.mean_of_all_s == pytest.approx(rate * square_s2 / (2 * (1 - rate * service_s)))


def test_mm1_waits_exponentially() -> None:
    found = waiting(arrivals_per_s=0.8, service_s=1.0, service_cv2=1.0, servers=1)
    assert found.over(3.0) == pytest.approx(0.8 * exp(-0.2 * 3.0))


def test_too_much_waits_for_ever() -> None:
    found = waiting(arrivals_per_s=2.0, service_s=1.0, service_cv2=1.0, servers=2)
    assert (found.share, found.mean_s, found.over(1e9)) == (1.0, inf, 1.0)


def test_no_work_waits_not() -> None:
    found = waiting(arrivals_per_s=1.0, service_s=0.0, service_cv2=0.0, servers=1)
    assert found.over(0.0) == 0.0
    assert found.over(-1.0) == 1.0
