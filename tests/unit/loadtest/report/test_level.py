"""Which requests are good, and levels as text."""

from __future__ import annotations

import pytest

from cluster.core.errors import SetupError
from loadtest.record import Record
from loadtest.report import Level, is_good, parse_level
from loadtest.report.times import tpot_s
from tests.loadtest_runs import record, refused

LEVEL = Level(ttft_s=1.0, ttft_s_per_1k_tokens=0.5, itl_s=0.1, e2e_s=10.0)


@pytest.mark.parametrize(
    ("one", "good"),
    [
        (record(first_token_s=1.05, ended_s=1.25), True),
        (record(first_token_s=1.06, ended_s=1.2), False),
        (record(first_token_s=1.99, ended_s=2.19, prompt_tokens=2_000), True),
        (record(ended_s=0.31), False),
        (record(ended_s=0.3, output_tokens=2), False),
        (record(gaps_s=[], output_tokens=1, ended_s=5.0), True),
        (record(gaps_s=[], output_tokens=1, ended_s=10.1), False),
        (record(error="broken"), False),
        (record(due_s=-1.0), False),
        (refused(), False),
    ],
)
def test_good_is_in_time_from_when_it_was_due(one: Record, good: bool) -> None:
    assert is_good(one, LEVEL) is good


def test_an_answer_that_is_no_stream_has_no_time_between_tokens() -> None:
    assert tpot_s(record(gaps_s=[])) is None
    assert tpot_s(record(output_tokens=1)) is None
    assert tpot_s(record()) == pytest.approx(0.1)


def test_a_level_as_text() -> None:
    assert parse_level(None) == Level()
    assert parse_level("ttft=1,ttft-per-1k=0.5,itl=0.1,e2e=10") == LEVEL
    assert "whole answer within 10 s" in str(LEVEL)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tfft=1", "no part of a service level"),
        ("ttft=fast", "no number"),
        ("itl=0", "not above 0"),
        ("e2e=inf", "not"),
    ],
)
def test_what_is_no_level_is_refused(text: str, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        parse_level(text)
