"""`longreach loadtest judge`: what it refuses before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.cli.loadtest_judge import _fits
from tests.judged import LOAD, goal


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


@pytest.mark.parametrize(
    ("prompt_tokens", "output_tokens", "word"),
    [(4_000, 100, "at most 4,080"), (10, 8, "the template alone has 10")],
)
def test_what_only_one_tool_would_send_is_refused(
    prompt_tokens: int, output_tokens: int, word: str, tmp_path: Path
) -> None:
    load = replace(LOAD, prompt_tokens=prompt_tokens, output_tokens=output_tokens)
    with pytest.raises(typer.BadParameter, match=word):
        _fits(load, goal(tmp_path))


def test_a_load_that_just_fits_is_not_refused(tmp_path: Path) -> None:
    _fits(replace(LOAD, prompt_tokens=4_000, output_tokens=80), goal(tmp_path))
