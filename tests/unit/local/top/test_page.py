"""Pages of metrics: only what is wanted is read, and looked up by labels."""

from __future__ import annotations

import math

import pytest

from cluster.local.top.page import parse_page

TEXT = """\
# HELP longreach_requests_total Requests by how they ended
# TYPE longreach_requests_total counter
longreach_requests_total{route="chat/completions",pool="short",outcome="ok"} 3.0
longreach_requests_total{route="chat/completions",pool="long",outcome="ok"} 4.0
longreach_in_flight 2.0
longreach_in_flight_other 9.0
longreach_wait_seconds_bucket{le="0.5",pool="short"} 1.0
longreach_wait_seconds_bucket{le="+Inf",pool="short"} 2.0
longreach_wait_seconds_bucket{le="0.5",pool="a\\"b}c"} 5.0
not prometheus at all {{{
"""
WANTED = {"longreach_requests_total", "longreach_in_flight", "longreach_wait_seconds_bucket"}


def test_it_sums_over_the_labels_that_are_not_named() -> None:
    page = parse_page(TEXT, WANTED, 5.0)
    assert page.read_s == 5.0
    assert page.total("longreach_requests_total") == 7
    assert page.total("longreach_requests_total", pool="long") == 4
    assert page.total("longreach_requests_total", pool="nobody") is None
    assert page.highest("longreach_requests_total") == 4
    assert page.highest("longreach_requests_total", pool="nobody") is None
    assert page.total("longreach_in_flight") == 2
    assert page.values("pool", "longreach_requests_total") == ["short", "long"]


def test_it_leaves_out_what_nobody_wants() -> None:
    assert parse_page(TEXT, WANTED, 0.0).samples.keys() == WANTED
    assert parse_page(TEXT, set(), 0.0).samples == {}


def test_buckets_keep_their_bounds_and_labels_whatever_is_in_them() -> None:
    page = parse_page(TEXT, WANTED, 0.0)
    assert page.buckets("longreach_wait_seconds", pool="short") == {0.5: 1, math.inf: 2}
    assert page.buckets("longreach_wait_seconds", pool='a"b}c') == {0.5: 5}
    assert page.buckets("longreach_wait_seconds") == {0.5: 6, math.inf: 2}


def test_a_wanted_line_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_page('longreach_in_flight{pool="a"} many\n', WANTED, 0.0)
