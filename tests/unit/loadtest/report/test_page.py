"""Pages and tables show what there is, escape what came from elsewhere, and say what is not to be trusted."""

from __future__ import annotations

from loadtest.report import Level, missed, parse_threshold, summary
from loadtest.report.compare import compare
from loadtest.report.page import comparison_page, run_page
from loadtest.report.table import sections, totals, warnings
from tests.loadtest_runs import record, refused, run

LEVEL = Level()
RUN = run(
    *[record(label="<short>", due_s=place / 4, sent_s=place / 4, first_token_s=place / 4 + 0.1, ended_s=place / 4 + 0.3)
      for place in range(20)],
    *[record(label="long", pool="long", prompt_tokens=9_000, due_s=place / 4, sent_s=place / 4,
             first_token_s=place / 4 + 0.9, ended_s=place / 4 + 1.1) for place in range(20)],
    refused(label="long", code="<over>"),
    metrics=[{"at_s": 60.0 * at, "gateway_bytes": 1e8, "short_replicas": 1.0} for at in range(12)],
)  # fmt: skip


def test_a_page_has_all_plots_and_tables() -> None:
    found = summary(RUN, LEVEL)
    page = run_page(RUN, found, missed(found, [parse_threshold("requests<1")]))
    for text in ("Requests", "Time to first token by prompt tokens", "In flight", "Memory", "Replicas", "Errors",
                 "Thresholds missed", "requests&lt;1: it is 41", "&lt;short&gt;", "&lt;over&gt;"):  # fmt: skip
        assert text in page, text
    assert "<short>" not in page
    assert page.count("<svg") == 9


def test_a_page_without_requests_is_a_page() -> None:
    page = run_page(run(), summary(run(), LEVEL))
    assert "nothing to show" in page


def test_a_comparison_has_both_runs() -> None:
    page = comparison_page(RUN, RUN, compare(RUN, RUN, LEVEL), ("before", "after"))
    assert "before" in page
    assert "after" in page
    page = comparison_page(RUN, RUN, compare(RUN, RUN, LEVEL), ("same", "same"))
    assert "first" in page


def test_groups_that_say_the_same_as_all_are_left_out() -> None:
    assert [name for name, _ in sections(summary(RUN, LEVEL))] == ["", "label", "prompt tokens", "pool"]
    assert [name for name, _ in sections(summary(run(record()), LEVEL))] == [""]


def test_memory_is_among_the_totals() -> None:
    assert dict(totals(summary(RUN, LEVEL)))["memory of gateway grows by"].startswith("+0.0 MiB an hour (95 to 95 MiB")


def test_a_client_that_was_late_is_told() -> None:
    assert warnings(summary(RUN, LEVEL)) == []
    late = run(record(sent_s=0.05))
    assert "the client is part of what was measured" in " ".join(warnings(summary(late, LEVEL)))
    stopped = run(record(sent_s=0.05), stopped="errors", warnings=["one core is busy"])
    assert warnings(summary(stopped, LEVEL)) == ["the run was stopped: errors", "one core is busy"]
    silent = run(record(prompt_tokens=0, output_tokens=0))
    assert "told no token counts" in " ".join(warnings(summary(silent, LEVEL)))
