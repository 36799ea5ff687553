"""Figures of runs of a few requests, worked out by hand."""

from __future__ import annotations

import json
from math import inf, isnan, nan
from typing import Any

import pytest

from cluster.core.autoscaling import ServiceLevel
from cluster.core.lease import PoolName
from cluster.simulator.outcome import Fate, Outcomes, PoolUse, Result
from cluster.simulator.report import figures_of, ideal_prefill_tokens
from cluster.simulator.report.metrics import is_good, percentile
from cluster.simulator.report.page import page
from cluster.simulator.report.table import as_json, as_table, band_name, rows_of, totals_of
from cluster.simulator.trace import Trace, TraceRequest

LEVEL = ServiceLevel(ttft_s=1.0, ttft_s_per_1k_tokens=0.5, itl_s=0.1)


def result(*rows: dict[str, Any]) -> Result:
    """A run of these requests, by the columns that are not as usual."""
    outcomes = Outcomes([row["arrived_s"] for row in rows], [row.get("prompt_tokens", 1000) for row in rows])
    for number, row in enumerate(rows):
        usual = {"fate": Fate.DONE, "first_token_s": row["arrived_s"] + 0.5, "output_tokens": 11}
        usual["ended_s"] = row.get("first_token_s", usual["first_token_s"]) + 1.0
        for name, value in (usual | row).items():
            getattr(outcomes, name)[number] = value
    return Result(
        trace="made",
        router="someone",
        seed=0,
        outcomes=outcomes,
        pools={PoolName("only"): PoolUse(replica_s=100.0, gpu_s=7200.0, busy_s=25.0)},
        sizes=(),
        decisions=(),
        ended_s=50.0,
        events=1,
        wall_s=0.1,
    )


TRACE = Trace(name="made", block_tokens=512, requests=(TraceRequest(0.0, 1000, 11),))


def test_refused_and_lost_requests_count_in_goodput_and_in_ttft() -> None:
    run = result(
        {"arrived_s": 0.0},
        {"arrived_s": 2.0, "first_token_s": 5.0},  # 3 s, over the 1.5 s of a thousand tokens
        {"arrived_s": 4.0, "fate": Fate.QUEUE_TIME, "first_token_s": nan, "ended_s": 34.0},
        {"arrived_s": 10.0, "fate": Fate.LOST, "ended_s": 12.0},
    )
    figures = figures_of(run, TRACE, level=LEVEL)
    every = figures.every
    assert (every.requests, every.done, every.refused, every.lost, every.good) == (4, 2, 1, 1, 1)
    assert every.good_ratio == 0.25
    assert figures.offered_per_s == 0.4
    assert figures.goodput_per_s == 0.1
    assert (every.ttft_s.p50, every.ttft_s.p95, every.ttft_s.p99) == (3.0, inf, inf)
    assert every.itl_s.p50 == pytest.approx(0.1)
    assert figures.gpu_hours == 2.0
    assert figures.busy_ratio == 0.25


def test_an_answer_of_one_token_has_no_interval() -> None:
    run = result({"arrived_s": 0.0, "output_tokens": 1})
    assert isnan(run.outcomes[0].itl_s)
    assert figures_of(run, TRACE, level=LEVEL).every.good == 1
    assert figures_of(run, TRACE, level=LEVEL).every.itl_s.p99 == 0.0


def test_slow_tokens_are_not_within_the_service_level() -> None:
    run = result({"arrived_s": 0.0, "first_token_s": 0.5, "ended_s": 1.51})
    assert not is_good(run.outcomes[0], LEVEL)
    assert is_good(result({"arrived_s": 0.0, "first_token_s": 0.5, "ended_s": 1.49}).outcomes[0], LEVEL)


def test_a_longer_prompt_may_take_longer() -> None:
    late = {"arrived_s": 0.0, "first_token_s": 5.9, "ended_s": 6.0}
    assert not is_good(result(late).outcomes[0], LEVEL)
    assert is_good(result(late | {"prompt_tokens": 10_000}).outcomes[0], LEVEL)


def test_requests_are_counted_in_the_band_of_their_prompt() -> None:
    lengths = (1, 4095, 4096, 32_768, 131_071, 131_072, 262_143)
    figures = figures_of(
        result(*({"arrived_s": float(at), "prompt_tokens": many} for at, many in enumerate(lengths))),
        TRACE,
        level=LEVEL,
    )
    assert [(band.from_tokens, band.requests) for band in figures.bands] == [
        (0, 2),
        (4_096, 1),
        (32_768, 2),
        (131_072, 2),
    ]
    assert figures.short is figures.bands[0]
    assert [band_name(band.from_tokens) for band in figures.bands] == [
        "under 4k",
        "4k to 32k",
        "32k to 128k",
        "128k or more",
    ]


@pytest.mark.parametrize(("percent", "value"), [(50, 2), (75, 3), (76, 4), (99, 4), (1, 1)])
def test_a_percentile_is_a_value_that_occurred(percent: int, value: int) -> None:
    assert percentile([1, 2, 3, 4], percent) == value
    assert percentile([], percent) == 0.0


def test_the_least_prefill_counts_every_prefix_once() -> None:
    requests = (
        TraceRequest(0.0, 1024, 1, (0, 1)),
        TraceRequest(1.0, 1500, 1, (0, 1, 2)),  # two blocks are known: 476 tokens are left
        TraceRequest(2.0, 512, 1, (0,)),  # all of it: one token is computed at least
        TraceRequest(3.0, 600, 1, (9, 1)),  # another begin: 1 is not the same prefix
        TraceRequest(4.0, 700, 1),  # nothing is known of it
    )
    trace = Trace(name="made", block_tokens=512, requests=requests)
    assert ideal_prefill_tokens(trace) == 1024 + 476 + 1 + 600 + 700


def test_a_run_is_shown_in_rows_json_and_a_page() -> None:
    run = result(
        {"arrived_s": 0.0},
        {"arrived_s": 4.0, "fate": Fate.QUEUE_FULL, "first_token_s": nan, "prompt_tokens": 200_000},
    )
    figures = figures_of(run, TRACE, level=LEVEL)
    rows = rows_of(figures)
    assert [row[0] for row in rows] == ["under 4k", "128k or more", "all"]
    assert rows[1][5] == "never"
    assert as_table(figures).row_count == 3
    assert dict(totals_of(figures))["GPU hours"].startswith("2.00")
    assert json.loads(json.dumps(as_json(figures), allow_nan=False))["bands"][1]["ttft_s"]["p99"] is None
    html = page("<made>", [(figures, run)])
    assert "&lt;made&gt;" in html
    assert html.count("<svg") == html.count("</svg>") == 2  # of the refused there is nothing to draw
    assert "<script" not in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
