"""`longreach bench pools`: its layouts, its figures, its table and its plots; nothing is started or sent."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.config import parse_config
from loadtest.pools import cores
from loadtest.pools.plan import Layout, Plan, configuration
from loadtest.pools.report import plots, print_report
from loadtest.pools.results import Measured, factor, rows
from loadtest.record import Record, Run
from loadtest.scenarios import find_scenario

PLAN = Plan(
    model="tiny",
    rate_per_s=1.0,
    seconds=60.0,
    rounds=2,
    short_tokens=100,
    short_output_tokens=10,
    long_tokens=2000,
    long_output_tokens=10,
    long_share=0.1,
    seed=1,
)


def record(label: str, due_s: float, ttft_s: float, error: str = "") -> Record:
    values: dict[str, Any] = {
        "tenant": "", "session": 0, "turn": 0, "sent_s": due_s, "gaps_s": (), "status": 200, "code": "",
        "prompt_tokens": 10, "cached_tokens": 0, "output_tokens": 3, "pool": "short", "replica": "a",
    }  # fmt: skip
    first_s = None if error else due_s + ttft_s
    return Record(label=label, due_s=due_s, first_token_s=first_s, ended_s=due_s + ttft_s + 0.2, error=error, **values)


def measured(layout: Layout, with_long: bool, ttfts_s: list[float]) -> Measured:
    records = [record("short", 20.0 + number, ttft_s) for number, ttft_s in enumerate(ttfts_s)]
    records += [record("short", 1.0, 99.0), record("short", 30.0, 0.0, error="timeout")]
    if with_long:
        records.append(record("long", 25.0, 8.0))
    run = Run(
        scenario="mixed", arguments={}, api="rest", begun="", seconds=60.0, warmup_s=10.0, records=records,
        client={"late_p99_s": 0.001},
    )  # fmt: skip
    return Measured(layout=layout, with_long=with_long, run=run, load_1min=1.0)


RUNS = [
    measured(Layout.POOLS, False, [0.1, 0.2]),
    measured(Layout.POOLS, True, [0.2, 0.2]),
    measured(Layout.ONE, False, [0.1]),
    measured(Layout.ONE, True, [0.4]),
    measured(Layout.ONE, True, [0.5]),
]


def test_both_layouts_have_two_replicas_with_a_thread_each() -> None:
    for layout in Layout:
        made = parse_config(str(configuration(layout, "tiny", core=3, port_min=35_000)))
        assert sum(pool.replicas.min for pool in made.pools) == cores.REPLICAS
        assert {pool.engine.env["VLLM_CPU_OMP_THREADS_BIND"] for pool in made.pools} == {"3"}
        assert max(pool.context_tokens for pool in made.pools) == 32_768


def test_the_scenario_takes_the_plans_settings() -> None:
    for with_long in (False, True):
        options = find_scenario("mixed").read_options(PLAN.settings(with_long=with_long))
        assert (options.with_long, options.long_tokens) == (with_long, 2000)  # type: ignore[attr-defined]


def test_rows_have_all_rounds_and_leave_the_warm_up_and_failures_out_of_times() -> None:
    found = rows(RUNS)
    assert [(row["layout"], row["with_long"], row["rounds"]) for row in found] == [
        ("two pools", False, 1), ("two pools", True, 1), ("one pool", False, 1), ("one pool", True, 2),
    ]  # fmt: skip
    first, last = found[0], found[-1]
    assert (first["short_requests"], first["failed"], first["long_ttft_s"]) == (3, 1, None)
    assert first["ttft_s"]["p99"] == pytest.approx(0.2)
    assert last["ttft_spread_s"]["p50"] == pytest.approx([0.4, 0.5])
    assert last["long_ttft_s"]["p50"] == pytest.approx(8.0)
    assert factor(found, Layout.ONE, "p50") == pytest.approx(4.0)
    assert math.isnan(factor(found[1:], Layout.POOLS, "p50"))


def test_the_table_says_it_all() -> None:
    console = Console(file=io.StringIO(), width=200)
    print_report(console, {"rows": rows(RUNS)})
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "two pools" in text
    assert "400 ms (400 ms..500 ms)" in text
    assert "One pool: with long requests a short one's TTFT is 4.00 times as long at p50" in text


def test_plots_show_every_run() -> None:
    found = plots(RUNS)
    assert found.keys() == {"pools-ttft.svg", "pools-time-pools.svg", "pools-time-one.svg"}
    assert all(text.startswith("<svg") and "nothing to show" not in text for text in found.values())


def test_one_core_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: {0})
    with pytest.raises(cores.SetupError, match="need one each"):
        cores.cores()


def test_options_out_of_range_are_refused() -> None:
    assert CliRunner().invoke(app, ["bench", "pools", "--long-share", "2"]).exit_code == 2
