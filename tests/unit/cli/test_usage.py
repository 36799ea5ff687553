"""`longreach usage` without a state store; with one: tests/integration/test_usage.py."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cluster.cli.usage import usage
from cluster.core.tenant import KeyId, TenantName
from cluster.core.usage import UsageBatch, UsageCounts, UsageKey
from cluster.state.usage_files import FileTotals

TODAY = time.strftime("%Y-%m-%d", time.gmtime())
COUNTS = UsageCounts(requests=1200, prompt_tokens=34_000, cached_tokens=1, output_tokens=2, unknown_requests=3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the default cluster's gateway keeps its usage."""
    monkeypatch.setenv("LONGREACH_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "local" / "usage"


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(usage)
    return made


def put(folder: Path, day: str, tenant: str) -> None:
    key = UsageKey(day=day, tenant=TenantName(tenant), key_id=KeyId("k1"), model="demo")
    assert FileTotals(folder).apply(UsageBatch(writer=tenant * 8, sequence=0, sums={key: COUNTS}))


def test_totals_of_a_gateway_alone(folder: Path, app: typer.Typer) -> None:
    put(folder, TODAY, "a")
    put(folder, TODAY, "[b]")
    shown = CliRunner().invoke(app, [])
    assert shown.exit_code == 0, shown.output
    assert "[b]" in shown.output
    assert "68,000" in shown.output
    answer = json.loads(CliRunner().invoke(app, ["--json", "--by", "day"]).output)
    assert [(row["day"], row["unknown_requests"]) for row in answer["rows"]] == [(TODAY, 6)]
    assert CliRunner().invoke(app, ["--csv"]).output.splitlines() == [
        "tenant,requests,prompt_tokens,cached_tokens,output_tokens,unknown_requests,broken_requests",
        "[b],1200,34000,1,2,3,0",
        "a,1200,34000,1,2,3,0",
    ]


def test_no_usage_is_said(folder: Path, app: typer.Typer) -> None:
    put(folder, "2000-01-01", "a")
    result = CliRunner().invoke(app, ["--since", "1d"])
    assert (result.exit_code, result.output) == (0, f"No usage since {TODAY} (UTC)\n")
    assert json.loads(CliRunner().invoke(app, ["--json"]).output)["rows"] == []


@pytest.mark.parametrize(
    "options", [["--since", "soon"], ["--since", "2999-01-01"], ["--json", "--csv"], ["--by", "colour"]]
)
def test_options_that_make_no_sense_are_refused(folder: Path, app: typer.Typer, options: list[str]) -> None:
    assert CliRunner().invoke(app, options).exit_code == 2
