"""`longreach loadtest report` and `compare`: tables, JSON, pages and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cluster.cli.app import app
from loadtest.run_file import write_run
from tests.loadtest_runs import record, refused, run


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["loadtest", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [record(due_s=place / 10, sent_s=place / 10, first_token_s=place / 10 + 0.1, ended_s=place / 10 + 0.28)
            for place in range(30)]  # fmt: skip
    path = tmp_path / "run.jsonl.gz"
    write_run(path, run(*rows, refused()))
    return path


def test_a_run_as_a_table(file: Path) -> None:
    result = call("report", file)
    assert result.exit_code == 0, result.output
    assert "requests a second: 3.10 due, 3.00 answered, 3.00 good" in result.stdout
    assert "overloaded" in result.stdout


def test_a_run_as_json_and_as_a_page(file: Path, tmp_path: Path) -> None:
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    result = call("report", file, "--html", page, "--json", figures)
    assert result.exit_code == 0, result.output
    assert f"Wrote {page}" in result.stdout
    assert "<svg" in page.read_text(encoding="utf-8")
    assert json.loads(figures.read_text(encoding="utf-8"))["every"]["refused"] == 1
    printed = json.loads(call("report", file, "--json", "-").stdout)
    assert printed["every"]["requests"] == 31
    assert printed["missed"] == []


def test_a_missed_threshold_is_status_1(file: Path) -> None:
    assert call("report", file, "--threshold", "ttft_p95_s<0.2").exit_code == 0
    result = call("report", file, "--threshold", "ttft_p95_s<0.2", "--threshold", "error_ratio<0.01")
    assert result.exit_code == 1
    assert "missed: error_ratio<0.01: it is 0.03226" in result.stderr


def test_a_level_decides_what_is_good(file: Path) -> None:
    printed = json.loads(call("report", file, "--slo", "itl=0.01", "--json", "-").stdout)
    assert printed["every"]["good"] == 0


def test_two_runs(file: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = call("compare", file, file, "--html", page)
    assert result.exit_code == 0, result.output
    assert "no difference seen" in result.stdout
    assert "<svg" in page.read_text(encoding="utf-8")
    printed = json.loads(call("compare", file, file, "--json", "-").stdout)
    assert {row["name"] for row in printed["differences"]} >= {"ttft_p50_s", "good_ratio", "output_tokens_per_s"}
    assert printed["confidence"] == 0.95


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--threshold", "ttft_p95<2"], "did you mean"),
        (["--slo", "x=1"], "no part of a service level"),
    ],
)
def test_mistakes_are_told_before_the_file_is_read(arguments: list[str], words: str, tmp_path: Path) -> None:
    result = call("report", tmp_path / "none", *arguments)
    assert result.exit_code == 1
    assert words in result.stderr


def test_a_file_that_is_no_run_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("{}\n", encoding="utf-8")
    result = call("report", path)
    assert result.exit_code == 1
    assert f"{path}:1: format" in result.stderr
