from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console

from loadtest.bench.measure import Sample
from loadtest.bench.report import print_report
from loadtest.bench.results import HEADLINES, Row, as_json, noise, row_of


def sample(cpu_us: float, **figures: float) -> Sample:
    return Sample(figures={"cpu_us_per_request": cpu_us, **figures}, failed=1, status={200: 10})


def test_a_row_holds_medians_and_the_spread() -> None:
    row = row_of("r", [sample(90.0), sample(300.0), sample(100.0)])
    assert row.figures["cpu_us_per_request"] == 100.0
    assert row.spread["cpu_us_per_request"] == (90.0, 300.0)
    assert (row.failed, row.status, row.repeats) == (3, {200: 30}, 3)


def test_a_figure_that_one_repeat_lacks_comes_from_the_others() -> None:
    row = row_of("r", [sample(1.0, pss_mb=50.0), sample(2.0), sample(3.0, pss_mb=math.nan)])
    assert row.figures["pss_mb"] == 50.0
    assert row.spread["pss_mb"] == (50.0, 50.0)


def test_json_has_every_headline_and_nests_what_belongs_together() -> None:
    row = row_of("r", [sample(12.34567, **{"long.english.cpu_ms": 4.0, "long.chinese.cpu_ms": 5.0})])
    data = json.loads(json.dumps(as_json(row)))
    assert set(HEADLINES) <= data.keys()
    assert data["cpu_us_per_request"] == 12.3457
    assert data["pss_mb"] is None
    assert data["long"] == {"english": {"cpu_ms": 4.0}, "chinese": {"cpu_ms": 5.0}}
    assert data["status"] == {"200": 10}


def test_json_of_a_router_that_is_not_here_says_why() -> None:
    data = as_json(Row(name="nginx", why="not installed"))
    assert (data["name"], data["why"], data["cpu_us_per_request"]) == ("nginx", "not installed", None)


def test_noise_is_how_far_direct_baselines_lie_apart() -> None:
    samples = [sample(1.0, **{"short.direct_requests_s": value}) for value in (90.0, 100.0, 120.0)]
    assert noise(samples) == {"short.direct_requests_s": pytest.approx(0.3)}
    assert noise([]) == {}


def test_the_tables_show_every_router_and_every_remark() -> None:
    measured = row_of(
        "longreach",
        [sample(90.0, **{"long.english.cpu_ms": 4.5}), sample(110.0, **{"memory.growth_ratio": 0.01})],
    )
    out = io.StringIO()
    print_report(Console(file=out, width=200), [measured, Row(name="nginx", why="not installed")], {"short.x": 0.25})
    text = out.getvalue()
    assert "100 (90..110)" in text
    assert "english" in text
    assert "+1.0%" in text
    assert "nginx: not installed" in text
    assert "short 25%" in text


def test_json_takes_the_headlines_of_another_bench() -> None:
    data = as_json(Row(name="bare"), ("messages_s",))
    assert data["messages_s"] is None
    assert "pss_mb" not in data
