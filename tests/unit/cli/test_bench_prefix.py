"""`longreach bench prefix`: what it refuses before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.text import Text
from typer.testing import CliRunner

from cluster.cli.app import app


@pytest.fixture(autouse=True)
def _nothing_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGREACH_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("loadtest.prefix.bench.PrefixBench.run", lambda _: pytest.fail("the bench was started"))


@pytest.mark.parametrize(
    ("arguments", "named", "told"),
    [
        (["--part", "everything"], "--part", "ttft, routing, all"),
        (["--tier", "maybe"], "--tier", "off, on, both"),
        (["--policy", "random"], "--policy", "round-robin, least-work, session, prefix, balanced"),
        (["--dtype", "int8"], "--dtype", "auto, bfloat16, float16, float32"),
        (["--prefix-tokens", "100"], "--prefix-tokens", "512"),
        (["--repeats", "0"], "--repeats", "1"),
        (["--concurrency", "100"], "--concurrency", "8"),
        (["--cache-share", "0"], "--cache-share", "0.1"),
        (["--turns", "1000", "--conversations", "100"], "--turns", "over 5,000"),
        (["--json", "/nowhere/file.json"], "--json", "/nowhere is not a folder"),
    ],
)
def test_mistakes_are_refused_at_once(arguments: list[str], named: str, told: str) -> None:
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["bench", "prefix", *arguments])
    assert result.exit_code == 2, result.output
    output = Text.from_ansi(result.output).plain
    assert named in output
    assert told in output


def test_a_prompt_longer_than_the_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("LONGREACH_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("loadtest.prefix.bench.running_cluster", lambda *_, **__: pytest.fail("a cluster was started"))
    result = CliRunner().invoke(app, ["bench", "prefix", "--model", "tiny", "--prefix-tokens", "2000000"])
    assert result.exit_code == 1, result.output
    assert "--prefix-tokens" in result.output
