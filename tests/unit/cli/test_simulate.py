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
