from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli.app import app

FEW = ["--requests", "40", "--rate", "4"]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["simulate", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_drawn_requests_on_the_default_cluster_as_a_table() -> None:
    said = run(*FEW, "--seed", "3")
    assert "GPU hours" in said
    assert "seed 3" in said


def test_json_and_a_page(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    rows = [{"timestamp": at * 500, "input_length": 900, "output_length": 9, "hash_ids": [0, at]} for at in range(8)]
    trace.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    page = tmp_path / "page.html"
    found = json.loads(run("--trace", str(trace), "--json", "--page", str(page)))
    assert (found["every"]["done"], found["policy"], found["trace"]) == (8, "balanced", "trace")
    assert "<svg" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("policy", ["round-robin", "static-pools", "shared-least-request"])
def test_policies_and_baselines_by_name(policy: str) -> None:
    assert json.loads(run(*FEW, "--policy", policy, "--json"))["policy"] == policy


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--policy", "best"], "one of round-robin"),
        (["--fit", "none"], "one of mooncake-conversation"),
        (["--fit", "azure-code", "--trace", "x"], "leave one out"),
        (["--rate", "0"], "over 0"),
        (["--adaptive", "--policy", "static-pools"], "name no baseline"),
        (["--shape", "week"], "no shape: name day=HOURS"),
        (["--overlay", "2"], "name one with --trace"),
        (["--shape", "day=900"], "at most 168"),
    ],
)
def test_mistakes_are_named(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["simulate", *FEW, *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_the_simulator_is_timed() -> None:
    result = CliRunner().invoke(app, ["bench", "simulate", "--replicas", "8", "--requests", "50", "--json"])
    assert result.exit_code == 0, result.output
    timing = json.loads(result.stdout)
    assert (timing["requests"], timing["replicas"]) == (50, 8)
    assert timing["done"] > 0


def test_a_boundary_that_follows_is_named() -> None:
    assert json.loads(run(*FEW, "--adaptive", "--json"))["policy"] == "balanced, adaptive"


def test_a_configuration_may_say_that_it_follows(tmp_path: Path) -> None:
    model = "qwen3-4b-instruct-2507"
    config = tmp_path / "c.yaml"
    config.write_text(
        f"models: [{{id: {model}}}]\ngateway: {{routing: {{boundary: adaptive}}}}\npools:\n"
        f"  - {{name: short, model: {model}, context_tokens: 16384}}\n"
        f"  - {{name: long, model: {model}, context_tokens: 131072}}\n",
        encoding="utf-8",
    )
    assert json.loads(run(*FEW, "--config", str(config), "--json"))["policy"] == "balanced, adaptive"
    # A baseline has no boundary of ours.
    found = json.loads(run(*FEW, "--config", str(config), "--policy", "static-pools", "--json"))
    assert found["policy"] == "static-pools"


def test_a_tail_is_added() -> None:
    found = json.loads(run(*FEW, "--tail", "0.1", "--json"))
    assert found["every"]["requests"] == 44
    assert found["long"]["requests"] >= 4


def test_a_day_repeats_the_trace() -> None:
    found = json.loads(run(*FEW, "--shape", "day=0.01", "--json"))
    assert found["trace"] == "mooncake-conversation+day"
    assert found["every"]["requests"] > 100


def test_a_file_is_laid_over_itself(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    rows = [{"timestamp": at * 500, "input_length": 900, "output_length": 9} for at in range(8)]
    trace.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = json.loads(run("--trace", str(trace), "--overlay", "3", "--requests", "20", "--json"))
    assert (found["trace"], found["every"]["requests"]) == ("trace-x3", 20)


def test_gpu_hours_are_compared(tmp_path: Path) -> None:
    few = ["autoscale", *FEW, "--gpus", "1", "--baseline", "shared-least-request", "--startup", "5"]
    found = json.loads(run(*few, "--json", "--page", str(tmp_path / "page.html"), "--svg", str(tmp_path / "plots")))
    assert {one["family"] for one in found["systems"]} == {"shared, static", "shared, request counts", "Longreach"}
    assert found["startup_s"] == 5
    assert "<svg" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(list((tmp_path / "plots").iterdir())) == 4
    assert "the fewest GPU hours" in run(*few)


@pytest.mark.parametrize(
    ("option", "words"), [(["--baseline", "static-pools"], "one of shared-"), (["--policy", "best"], "one of round")]
)
def test_a_comparison_of_what_is_not_is_refused(option: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["simulate", "autoscale", *FEW, *option], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_traces_are_listed_and_fitted(tmp_path: Path) -> None:
    assert "CC-BY-4.0" in run("traces")
    assert json.loads(run("traces", "--json"))[0]["name"] == "mooncake-conversation"
    trace = tmp_path / "made.csv"
    rows = [f"2023-11-16 18:{at // 60:02}:{at % 60:02}.0000000,{100 + at},5" for at in range(200)]
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]), encoding="utf-8")
    fitted = json.loads(run("traces", "--fit", str(trace)))
    assert (fitted["prompt_tokens"][0], fitted["prompt_tokens"][-1], fitted["sharing"]) == (100.0, 299.0, None)


def test_a_trace_with_a_mistake_is_an_error_by_line(tmp_path: Path) -> None:
    trace = tmp_path / "made.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 0}', encoding="utf-8")
    result = CliRunner().invoke(app, ["simulate", "--trace", str(trace)])
    assert result.exit_code == 1
    assert "made.jsonl:1: input_length: 0 is not from 1 to" in result.output


def test_pools_are_searched(tmp_path: Path) -> None:
    few = ["search", "--requests", "60", "--gpus", "2", "--load", "0.5", "--policy", "balanced"]
    found = json.loads(run(*few, "--json", "--page", str(tmp_path / "page.html"), "--svg", str(tmp_path / "plots")))
    assert found["rates"][0]["chosen"].startswith("balanced 1x")
    assert "<svg" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert [path.suffix for path in (tmp_path / "plots").iterdir()] == [".svg"]


def test_loads_are_numbers() -> None:
    result = CliRunner().invoke(app, ["simulate", "search", "--load", "much"], env={"COLUMNS": "200"})
    assert result.exit_code == 2
