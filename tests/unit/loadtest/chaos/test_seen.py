"""What an operator is told of a fault."""

from __future__ import annotations

from pathlib import Path

from loadtest.chaos.seen import counters, pauses, warnings

METRICS = """# TYPE longreach_resumes_total counter
longreach_resumes_total{pool="short",result="append"} 3.0
# TYPE longreach_attempts_total counter
longreach_attempts_total{pool="short",result="answered"} 90.0
longreach_attempts_total{pool="short",result="reset"} 2.0
# TYPE longreach_requests_total counter
longreach_requests_total{pool="short"} 92.0
"""


def test_counters_of_faults_without_what_is_no_news() -> None:
    assert counters(METRICS) == {
        "longreach_resumes_total{pool=short,result=append}": 3.0,
        "longreach_attempts_total{pool=short,result=reset}": 2.0,
    }


def test_warnings_are_told_once_with_their_number(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    old = "2026-01-01T00:00:00.000Z WARNING of before\n"
    line = "2026-01-01T00:00:01.000Z WARNING replica cut off replica=a\n"
    log.write_text(old + line + "2026-01-01T00:00:02.000Z INFO request\n" + line, encoding="utf-8")
    assert warnings(log, len(old)) == ["log: replica cut off replica=a (2)"]


def test_structured_logs_are_read_too(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    log.write_text('{"level": "error", "message": "worker ended"}\n{"level": "info", "message": "no"}\nx\n')
    assert warnings(log, 0) == ["log: worker ended (1)"]


def test_pauses_are_told_by_what_they_are_made_of() -> None:
    text = """# TYPE longreach_resume_seconds histogram
longreach_resume_seconds_bucket{pool="a",stage="place",le="2.0"} 1
longreach_resume_seconds_bucket{pool="a",stage="place",le="3.0"} 2
longreach_resume_seconds_bucket{pool="a",stage="place",le="+Inf"} 3
longreach_resume_seconds_count{pool="a",stage="place"} 3
longreach_resume_seconds_sum{pool="a",stage="place"} 7.5
longreach_resume_seconds_bucket{pool="a",stage="redo",le="3.0"} 0
longreach_resume_seconds_count{pool="a",stage="redo"} 3
longreach_resume_seconds_sum{pool="a",stage="redo"} 30
longreach_resume_seconds_bucket{pool="b",stage="place",le="3.0"} 1
longreach_resume_seconds_count{pool="b",stage="place"} 1
longreach_resume_seconds_sum{pool="b",stage="place"} 0.5
longreach_resume_seconds_count{pool="b",stage="redo"} 1
longreach_resume_seconds_sum{pool="b",stage="redo"} 2
"""
    assert pauses(counters(text)) == (
        ["4 cut streams had a place after 2.00 s and went on 8.00 s later, in the mean"],
        ["1 of 4 cut streams had no place within 3 s"],
    )
    assert pauses({}) == ([], [])
