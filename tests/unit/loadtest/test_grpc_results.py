from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from loadtest.bench.grpc_results import BURST, FULL, PACED, Measured, Rounds, noise
from loadtest.bench.load import Latency, LoadResult
from loadtest.bench.report import print_streams_report

NAMES = ("bare", "longreach", "bare-full", "longreach-full", "bare-paced", "longreach-paced")


def measured(rate: float, *, cpu_s: float = 1.0, ttft_ms: float = 1.0, messages: int = 1_010, bad: int = 0) -> Measured:
    latency = Latency(p50_ms=ttft_ms, p99_ms=2 * ttft_ms, max_ms=3 * ttft_ms)
    load = LoadResult(
        good=10, bad=bad, chunks=1_000, messages=messages, requests_s=rate / 100, chunks_s=rate, ttft=latency,
        chunk=latency, request=latency, status={200: 10},
    )  # fmt: skip
    return Measured(load=load, took_s=2.0, server_cpu_s=cpu_s, load_busy_s=0.5)


def test_a_run_is_told_by_the_token() -> None:
    figures = measured(30_000.0, cpu_s=0.04, messages=250).sample().figures
    assert figures["messages_s"] == 30_000.0
    assert figures["cpu_us_per_message"] == pytest.approx(40.0)
    assert figures["tokens_per_grpc_message"] == 4.0
    assert (figures["server_core_ratio"], figures["load_core_ratio"]) == (0.02, 0.25)


def test_nothing_that_arrived_is_no_fault() -> None:
    run = measured(0.0)
    empty = replace(run, load=replace(run.load, good=0, chunks=0, messages=0))
    rounds = Rounds()
    rounds.add(BURST, empty, [empty, empty])
    assert {row.name for row in rounds.rows()} == set(NAMES)


def test_ratios_are_to_the_bare_runs_of_the_same_round() -> None:
    rounds = Rounds()
    # The machine is twice as fast in the second round; the ratio does not see it.
    rounds.add(BURST, measured(40.0, cpu_s=0.5), [measured(45.0), measured(55.0)])
    rounds.add(BURST, measured(80.0, cpu_s=0.25), [measured(100.0, cpu_s=0.5), measured(100.0, cpu_s=0.5)])
    rows = {row.name: row for row in rounds.rows()}
    assert rows["longreach"].figures["ratio"] == pytest.approx(0.8)
    assert rows["longreach"].spread["ratio"] == pytest.approx((0.8, 0.8))
    assert rows["longreach"].figures["cpu_ratio"] == pytest.approx(0.5)
    assert rows["bare"].spread["ratio"] == pytest.approx((0.9, 1.1))
    assert (rows["bare"].repeats, rows["longreach"].repeats) == (4, 2)


def test_only_paced_streams_tell_an_added_latency() -> None:
    rounds = Rounds()
    rounds.add(PACED, measured(1.0, ttft_ms=5.0), [measured(1.0, ttft_ms=1.0), measured(1.0, ttft_ms=2.0)])
    rounds.add(BURST, measured(1.0), [measured(1.0)])
    rows = {row.name: row.figures for row in rounds.rows()}
    assert rows["longreach-paced"]["added_ttft_p50_ms"] == 3.5
    assert rows["longreach-paced"]["added_ttft_p99_ms"] == 7.0
    assert "added_ttft_p50_ms" not in rows["longreach"]
    assert "added_ttft_p50_ms" not in rows["bare-paced"]


def test_failures_of_every_run_are_added() -> None:
    rounds = Rounds()
    rounds.add(BURST, measured(1.0, bad=1), [measured(1.0, bad=2), measured(1.0, bad=3)])
    failed = {row.name: row.failed for row in rounds.rows()}
    assert (failed["bare"], failed["longreach"]) == (5, 1)


def test_noise_is_how_far_bare_bursts_lie_apart() -> None:
    rounds = Rounds()
    rounds.add(BURST, measured(7.0), [measured(90.0), measured(110.0)])
    assert noise(rounds.rows()) == pytest.approx(0.2)


def test_the_table_shows_every_row() -> None:
    rounds = Rounds()
    for kind in (BURST, FULL, PACED):
        rounds.add(kind, measured(40.0), [measured(45.0), measured(55.0)])
    out = io.StringIO()
    print_streams_report(Console(file=out, width=200), rounds.rows(), 0.25)
    text = out.getvalue()
    assert all(name in text for name in NAMES)
    assert "50 (45..55)" in text
    assert "25%" in text
