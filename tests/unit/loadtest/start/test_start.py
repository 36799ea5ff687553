"""`longreach bench start`: the order of its starts, its medians and its tables; nothing is started."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.config import parse_config
from cluster.core.start import StartStage
from loadtest.start.configuration import Plan, Way, configuration, turns
from loadtest.start.measure import Start
from loadtest.start.report import print_report
from loadtest.start.results import ratio, summary


def start(way: Way, engine_s: float) -> Start:
    stages = {str(StartStage.PROCESS): 4.0, str(StartStage.ENGINE): engine_s}
    if way is Way.FORKED:
        stages[StartStage.PARENT] = 1.0
    return Start(way=way, stages_s=stages, ttft_s=0.5, replaced_s=40.0, pss_mib=1000.0, load_1min=1.0)


STARTS = [
    *(start(Way.SPAWNED, engine_s) for engine_s in (30.0, 90.0, 31.5)),
    *(start(Way.FORKED, engine_s) for engine_s in (6.5, 6.0, 9.0)),
]


def test_every_way_has_its_rounds_and_none_is_always_first() -> None:
    order = turns(4)
    assert Counter(order) == {Way.SPAWNED: 4, Way.FORKED: 4}
    assert {order[0], order[2]} == set(Way)


def test_the_pools_differ_in_one_setting() -> None:
    made = parse_config(str(configuration(Plan(model="tiny", dtype="float32", rounds=1), port_min=35_000)))
    spawned, forked = made.pools
    assert (spawned.engine.fast_start, forked.engine.fast_start) == (False, True)
    assert spawned.model_copy(update={"name": forked.name, "engine": forked.engine}) == forked


def test_medians_and_their_ratio() -> None:
    spawned, forked = rows = summary(STARTS)
    assert spawned["first_token_s"] == 36.0
    assert spawned["first_token_spread_s"] == [34.5, 94.5]
    assert forked["first_token_s"] == 12.0
    assert list(forked["stages_s"].items()) == [("process", 4.0), ("parent", 1.0), ("engine", 6.5)]
    assert ratio(rows) == pytest.approx(1 / 3)


def test_one_way_alone_has_no_ratio() -> None:
    assert ratio(summary(STARTS[:2])) is None


def test_tables_show_stages_and_verdict() -> None:
    rows = summary(STARTS)
    report = {"rows": rows, "ratio": ratio(rows), "target_ratio": 0.5, "met": True, "setup": {"cores": 2}}
    console = Console(width=160, file=io.StringIO())
    print_report(console, report)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "34.5..94.5" in text
    assert "0.33; target, at most 0.5: met" in text
    assert all(stage in text for stage in ("process", "parent", "engine"))


@pytest.mark.parametrize(
    ("arguments", "named", "told"),
    [
        (["--rounds", "0"], "--rounds", "1"),
        (["--dtype", "int8"], "--dtype", "float32"),
        (["--json", "/nowhere/file.json"], "--json", "/nowhere is not a folder"),
    ],
)
def test_mistakes_are_refused_at_once(
    arguments: list[str], named: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGREACH_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("loadtest.start.bench.measure_starts", lambda *_, **__: pytest.fail("the bench was started"))
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["bench", "start", *arguments])
    assert result.exit_code == 2, result.output
    output = Text.from_ansi(result.output).plain
    assert named in output
    assert told in output
