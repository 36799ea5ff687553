"""Tables and the page of a quality run."""

from __future__ import annotations

from html.parser import HTMLParser

from loadtest.quality.answered import Condition
from loadtest.quality.page import depth_map, quality_page
from loadtest.quality.question import QuestionKind
from loadtest.quality.table import (
    COMPARISON_HEADS,
    CONDITION_HEADS,
    accuracy_rows,
    comparison_row,
    condition_rows,
    depth_rows,
)
from loadtest.quality.verdict import judge
from tests.quality_runs import asked, quality_run, with_reply

ALL = tuple(Condition)
QUESTIONS = [asked(number, ALL, depth=number / 2, prompt_tokens=1_000 * (number + 1)) for number in range(3)]
RUN = quality_run(
    *QUESTIONS[:2],
    with_reply(QUESTIONS[2], Condition.UNCACHED, is_right=False, text="<b>no</b>", token_ids=(1,)),
    asked(4, ALL, kind=QuestionKind.COUNT, depth=None),
    conditions=ALL,
)
VERDICT = judge(RUN, is_exact=True)


def test_rows_have_their_heads() -> None:
    assert {len(row) for row in condition_rows(RUN)} == {len(CONDITION_HEADS)}
    assert {len(comparison_row(one)) for one in VERDICT.comparisons} == {len(COMPARISON_HEADS)}
    for heads, rows in (accuracy_rows(RUN), depth_rows(RUN)):
        assert {len(row) for row in rows} == {len(heads)}


def test_accuracy_is_told_by_kind_length_and_depth() -> None:
    heads, rows = accuracy_rows(RUN)
    assert heads == ("kind", "language", "1,000", "2,000", "3,000", "all", "95% interval")
    assert [row[:6] for row in rows] == [
        ("needle", "english", "1/1", "1/1", "0/1", "66.7%"),
        ("count", "english", "1/1", "–", "–", "100.0%"),  # noqa: RUF001 - a dash
        ("all", "", "2/2", "1/1", "0/1", "75.0%"),
    ]
    _, rows = depth_rows(RUN)
    assert [row[0] for row in rows] == ["0%", "50%", "100%"]
    assert rows[2][1:4] == ("–", "–", "0/1")  # noqa: RUF001


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.elsewhere: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.elsewhere += [value for name, value in attrs if name in {"src", "href"} and value]


def test_the_page_is_whole_and_alone() -> None:
    page = quality_page(RUN, VERDICT)
    tags = Tags()
    tags.feed(page)
    assert tags.found.count("svg") == len(ALL)
    assert not tags.elsewhere
    assert "script" not in tags.found
    assert "<b>no" not in page, "answers are text"
    assert "Not passed" in page


def test_a_heat_map_has_a_cell_for_each_length_and_depth() -> None:
    assert depth_map(RUN, Condition.UNCACHED).count("<rect") == 3
    assert "0/1" in depth_map(RUN, Condition.UNCACHED)
    assert "0/1" not in depth_map(RUN, Condition.CACHED)
