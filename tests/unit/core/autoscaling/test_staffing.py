"""Staffing against values that are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.autoscaling.staffing import OFFERED_MAX, places_for, servers_for_wait


@given(st.floats(0.01, 100), st.floats(0.01, 5), st.floats(0.01, 30))
def test_the_servers_are_the_fewest_that_keep_the_wait(offered: float, service_s: float, wait_limit_s: float) -> None:
    found = servers_for_wait(offered, service_s=service_s, wait_s=wait_limit_s)
    assert found > offered
    more = servers_for_wait(offered * 1.01, service_s=service_s, wait_s=wait_limit_s)
    assert more >= found
    assert servers_for_wait(offered, service_s=service_s, wait_s=2 * wait_limit_s) <= found


def test_the_recursion_has_an_end() -> None:
    at_most = servers_for_wait(OFFERED_MAX - 1, service_s=1.0, wait_s=0.1)
    assert at_most <= servers_for_wait(OFFERED_MAX, service_s=1.0, wait_s=0.1) < OFFERED_MAX * 1.1


@pytest.mark.parametrize(("busy", "places"), [(0.0, 0), (0.01, 1), (0.3, 1), (0.4, 2), (5.0, 9), (20.0, 28)])
def test_places_are_poissons_upper_twentieth(busy: float, places: int) -> None:
    assert places_for(busy) == places


@given(st.floats(0, 200), st.floats(0, 50))
def test_more_users_need_no_fewer_places(busy: float, more: float) -> None:
    assert busy <= places_for(busy) <= places_for(busy + more)
