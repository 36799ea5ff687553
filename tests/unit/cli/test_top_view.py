"""`longreach top` as people see it."""

from __future__ import annotations

import pytest
from rich.console import Console

from cluster.cli.top_view import rate_text, seconds_text, share_text, top_view, trouble_view
from cluster.local.top.sight import look
from tests.unit.local.top.test_sight import rounds


def shown(lines_max: int | None = None, width: int = 200) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(top_view(look(*rounds()), "http://gateway:8081", width=width, lines_max=lines_max))
    return captured.get()


def test_it_shows_pools_replicas_queues_and_rates() -> None:
    text = shown()
    assert "longreach 1.2 · http://gateway:8081 · over 2.0 s" in text
    assert "waiting: 2 normal" in text
    assert "refused: overloaded 0.5/s" in text
    (short,) = [line.split() for line in text.splitlines() if line.startswith("short")]
    assert short[:6] == ["short", "4,096", "1/3", "1", "2", "25%"]
    assert "the replica failed: reset" in text


def test_on_80_columns_nothing_is_cut() -> None:
    text = shown(width=80)
    assert "…" not in text
    assert "context" not in text
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())


def test_a_small_screen_shows_fewer_replicas_and_says_so() -> None:
    text = shown(lines_max=5)
    assert "and 2 more replicas" in text
    assert len(text.splitlines()) <= 12


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (0.25, "0.2"), (12.34, "12.3"), (123.4, "123"), (1234.0, "1.2k"), (45678.0, "45.7k")],
)
def test_rates_are_short(value: float | None, text: str) -> None:
    assert rate_text(value) == text


def test_small_shares_and_times_do_not_look_like_zero() -> None:
    assert (share_text(None), share_text(0), share_text(0.004), share_text(0.5)) == ("-", "0%", "0.4%", "50%")
    assert (seconds_text(None), seconds_text(0.0123), seconds_text(2.5)) == ("-", "12 ms", "2.5 s")


def test_trouble_says_that_looking_goes_on() -> None:
    assert "trying again" in str(trouble_view("no answer", "http://gateway:8081"))
