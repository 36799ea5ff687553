"""Rounds and turns become the figures of the report; a figure that could not be had says why."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from loadtest.prefix.client import Answer
from loadtest.prefix.report import print_report
from loadtest.prefix.results import percentile, routing_rows, targets, ttft_row
from loadtest.prefix.routing import PolicyRun, Sent
from loadtest.prefix.scrape import Counters
from loadtest.prefix.ttft import Round, Timed

FACTS = {"tier": "off", "cache_share": 0.6, "cache_tokens": 9_700}
SETUP = {"tenants": 2, "conversations": 1, "turns": 1, "concurrency": 2, "replicas": 2}


def timed(ttft_s: float, cached: int = 0, why: str | None = None) -> Timed:
    return Timed(ttft_s=ttft_s, prompt_tokens=3000, cached_tokens=cached, why=why)


def one_round(cold_s: float, redis_s: float, *, why: str | None = None, ask_s: float | None = 0.004) -> Round:
    return Round(
        cold=timed(cold_s),
        local=timed(0.1, 2944),
        redis=timed(redis_s, 2944, why),
        miss=Counters(scheduler_s=0.001, ask_s=ask_s),
        moved=Counters(read_bytes=40e6, read_s=0.02, written_bytes=40e6, write_s=0.1),
    )


def run(policy: str, *answers: tuple[int, int, float]) -> PolicyRun:
    sent = tuple(
        Sent(
            tenant="t",
            messages=(),
            answer=Answer(text="x", ttft_s=ttft_s, prompt_tokens=prompt, cached_tokens=cached, replica=str(number % 2)),
        )
        for number, (prompt, cached, ttft_s) in enumerate(answers)
    )
    return PolicyRun(
        policy=policy, sent=sent, ideal_tokens=1000, distinct_tokens=896, miscounted=0, moved=Counters(loaded_blocks=3)
    )


def test_the_figures_of_a_prompt() -> None:
    row = ttft_row([one_round(4.0, 0.2), one_round(5.0, 0.25), one_round(9.0, 0.3)])
    assert (row["ttft_cold_s"], row["ttft_local_s"], row["ttft_redis_s"]) == (5.0, 0.1, 0.25)
    assert row["redis_speedup"] == 20.0
    assert row["spread"]["ttft_cold_s"] == [4.0, 9.0]
    assert row["miss_overhead_ratio"] == pytest.approx(3 * 0.005 / 18, abs=1e-6)
    assert (row["load_mb_s"], row["store_mb_s"]) == (2000.0, 400.0)
    assert row["invalid"] == []


def test_a_round_that_was_not_what_it_should_be_does_not_count() -> None:
    row = ttft_row([one_round(4.0, 3.9, why="only 0 of 3000 tokens were cached"), one_round(5.0, 0.25)])
    assert (row["ttft_redis_s"], row["valid_redis"], row["valid_cold"]) == (0.25, 1, 2)
    assert row["invalid"] == ["round 1, redis: only 0 of 3000 tokens were cached"]
    none = ttft_row([one_round(4.0, 3.9, why="nothing was fetched")])
    assert none["ttft_redis_s"] is None
    assert none["redis_speedup"] is None


def test_a_share_of_misses_that_is_not_known_is_not_made_up() -> None:
    row = ttft_row([one_round(4.0, 0.2, ask_s=None)])
    assert row["miss_overhead_ratio"] is None
    assert row["miss_scheduler_ratio"] == 0.00025
    assert "do not export" in row["invalid"][0]


def test_without_a_cold_prompt_there_is_no_miss() -> None:
    warm = Round(cold=timed(0.1, 128, "128 tokens were cached before"), local=timed(0.1, 2944), redis=timed(0.2, 2944),
                 miss=Counters(), moved=Counters())  # fmt: skip
    row = ttft_row([warm])
    assert (row["ttft_cold_s"], row["redis_speedup"], row["miss_overhead_ratio"]) == (None, None, None)
    assert row["invalid"][-1] == "miss_overhead_ratio: no prompt was cold"


def test_the_rows_of_policies() -> None:
    rows = routing_rows(
        [run("round-robin", (2000, 0, 3.0), (2000, 0, 4.0)), run("prefix", (2000, 0, 3.0), (2000, 1000, 1.0))],
        FACTS,
        block_tokens=128,
    )
    assert [row["prefilled_tokens"] for row in rows] == [4000, 3000]
    assert [row["prefilled_ratio_to_ideal"] for row in rows] == [4.0, 3.0]
    assert [row["prefilled_ratio_to_round_robin"] for row in rows] == [1.0, 0.75]
    assert rows[1]["ttft_p50_s"] == 1.0
    assert rows[1]["ttft_p99_s"] == 3.0
    assert rows[0]["loaded_tokens"] == 384
    assert rows[0]["requests_by_replica"] == [1, 1]
    assert rows[0]["cache_share"] == 0.6
    assert (
        routing_rows([run("prefix", (10, 0, 1.0))], FACTS, block_tokens=128)[0]["prefilled_ratio_to_round_robin"]
        is None
    )


def test_targets_say_met_missed_or_not_measured() -> None:
    ttft = ttft_row([one_round(4.0, 0.2, ask_s=None)])
    rows = routing_rows([run("round-robin", (4000, 0, 1.0)), run("prefix", (1100, 0, 1.0))], FACTS, block_tokens=128)
    assert [target.is_met for target in targets(ttft, rows)] == [True, None, True, True]
    assert [target.is_met for target in targets(None, rows[1:])] == [True, True]
    assert targets(None, routing_rows([run("balanced", (10, 0, 1.0))], FACTS, block_tokens=128)) == []


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.99) == 4.0
    assert percentile([1.0], 0.5) == 1.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_the_report_is_json_and_can_be_drawn() -> None:
    ttft = ttft_row([one_round(4.0, 3.9, why="nothing was fetched", ask_s=None)])
    rows = routing_rows([run("round-robin", (4000, 0, 1.0)), run("prefix", (1100, 0, 1.0))], FACTS, block_tokens=128)
    report = {
        "setup": SETUP,
        "ttft": ttft,
        "routing": rows,
        "targets": [target.row() for target in targets(ttft, rows)],
    }
    assert json.loads(json.dumps(report)) == report
    keys = ("ttft_cold_s", "ttft_local_s", "ttft_redis_s", "miss_overhead_ratio", "load_mb_s", "store_mb_s")
    assert set(keys) <= ttft.keys()
    out = StringIO()
    print_report(Console(file=out, width=170), report)
    told = out.getvalue()
    assert "nothing was fetched" in told
    assert "an unknown share" in told
    assert "round-robin" in told
