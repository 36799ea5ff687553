"""`longreach loadtest judge`: what it refuses before anything is sent."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cluster.cli.app import app


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["vllm", "--arrivals", "bursts"], "constant or poisson"),
        (["vllm", "--concurrency", "2", "--rate", "1"], "no --rate"),
        (["vllm", "--concurrency", "9", "--requests", "5"], "--concurrency 9"),
        (["vllm", "--repeats", "1"], "--repeats"),
    ],
)
def test_contradictions_are_refused(arguments: list[str], word: str) -> None:
    result = CliRunner().invoke(app, ["loadtest", "judge", *arguments])
    assert result.exit_code == 2
    assert word in result.output


def test_an_unknown_judge_is_refused_with_those_there_are() -> None:
    result = CliRunner().invoke(app, ["loadtest", "judge", "locust"])
    assert result.exit_code == 1
    assert "vllm, guidellm" in result.output
