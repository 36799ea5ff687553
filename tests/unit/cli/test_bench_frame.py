"""What benches have in common: where the report goes, and how a signal ends them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.cli.bench_frame import Frame
from loadtest.chaos.outcome import Outcome
from loadtest.chaos.soak import Soaked


def table(console: Console, report: dict[str, Any]) -> None:
    console.print(f"rows: {report['rows']}")


@contextmanager
def closing_into(closed: list[int]) -> Iterator[None]:
    try:
        yield
    finally:
        closed.append(1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_its_status_once_everything_is_taken_down(number: signal.Signals) -> None:
    taken_down: list[int] = []
    before = signal.getsignal(number)
    with pytest.raises(typer.Exit) as exit_, Frame(None).measuring(), closing_into(taken_down):
        os.kill(os.getpid(), number)
    assert (exit_.value.exit_code, taken_down) == (128 + number, [1])
    assert signal.getsignal(number) is before


def test_a_report_is_a_file_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Frame(tmp_path / "report.json").tell({"rows": [1]}, table)
    told = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert told.keys() == {"rows", "took_s"}
    assert "rows: [1]" in capsys.readouterr().out


def test_a_report_is_json_instead_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    Frame(Path("-")).tell({"rows": [1]}, table)
    assert json.loads(capsys.readouterr().out)["rows"] == [1]


@pytest.mark.parametrize(("lost", "status"), [(0, 0), (1, 1)])
def test_a_soak_that_lost_something_tells_and_fails(lost: int, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def no_cluster(**_: object) -> Iterator[None]:
        yield None

    async def soaked(*_: object, **__: object) -> Soaked:
        return Soaked(outcome=Outcome(fault="soak", lost=lost), faults={"one": 2}, samples=())

    monkeypatch.setattr("loadtest.chaos.bench.chaos_cluster", no_cluster)
    monkeypatch.setattr("loadtest.chaos.soak.soak", soaked)
    result = CliRunner().invoke(app, ["chaos", "soak", "--json", "-"])
    assert result.exit_code == status, result.output
    told = json.loads(result.stdout)
    assert (told["rows"][0]["lost"], told["faults"], told["setup"]["duration_s"]) == (lost, {"one": 2}, 3600)
