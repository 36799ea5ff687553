"""The command line: what it accepts, prints and returns. Nothing here starts a cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli.app import app

PROGRAM = str(Path(sys.executable).with_name("longreach"))
HELP_SECONDS_MAX = 3.0
"""Half a second when the machine is idle; this one never is while tests run."""


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGREACH_STATE", str(tmp_path / "state"))


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


@pytest.mark.parametrize(
    "command", ["up", "down", "status", "logs", "chat", "demo", "models", "gateway", "config", "config check"]
)
def test_every_command_has_help(runner: CliRunner, command: str) -> None:
    result = runner.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom cluster.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "print([name for name in ('ray', 'vllm', 'torch', 'httpx', 'redis', 'pydantic') if name in sys.modules])"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert time.monotonic() - started < HELP_SECONDS_MAX


def test_usage_error_is_two(runner: CliRunner) -> None:
    assert runner.invoke(app, ["logs"]).exit_code == 2
    assert runner.invoke(app, ["fly"]).exit_code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    env = {**os.environ, "_LONGREACH_COMPLETE": f"source_{shell}"}
    done = subprocess.run([PROGRAM], env=env, capture_output=True, text=True, check=False)
    assert "_LONGREACH_COMPLETE" in done.stdout, done.stderr


def test_completion_names_commands() -> None:
    import os

    env = {**os.environ, "_LONGREACH_COMPLETE": "complete_bash", "COMP_WORDS": "longreach st", "COMP_CWORD": "1"}
    done = subprocess.run([PROGRAM], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["status"]


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return str(path)


BAD = """models:
  - id: m
    colour: red
pools:
  - name: Short
    model: m
    context_tokens: many
"""


def test_config_check_names_line_and_field_of_every_mistake(runner: CliRunner, tmp_path: Path) -> None:
    path = write(tmp_path, BAD)
    result = runner.invoke(app, ["config", "check", path])
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert lines[0] == f"{path}:3: models[0].colour: is not a known key"
    assert lines[1].startswith(f"{path}:5: pools[0].name: ")
    assert lines[2].startswith(f"{path}:7: pools[0].context_tokens: ")
    assert len(lines) == 3


def test_config_check_json(runner: CliRunner, tmp_path: Path) -> None:
    result = runner.invoke(app, ["config", "check", write(tmp_path, BAD), "--json"])
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert not found["ok"]
    assert [mistake["line"] for mistake in found["mistakes"]] == [3, 5, 7]


def test_config_check_fine(runner: CliRunner, tmp_path: Path) -> None:
    path = write(tmp_path, "models: [{id: m}]\npools: [{name: p, model: m, context_tokens: 4096}]\n")
    result = runner.invoke(app, ["config", "check", path])
    assert result.exit_code == 0
    assert "p (4,096 tokens)" in result.stdout
    assert runner.invoke(app, ["config", "check", str(tmp_path / "none.yaml")]).exit_code == 2


def test_config_schema_and_show(runner: CliRunner) -> None:
    schema = json.loads(runner.invoke(app, ["config", "schema"]).stdout)
    assert {"models", "pools", "gateway"} <= schema["properties"].keys()
    shown = json.loads(runner.invoke(app, ["config", "show", "--json"]).stdout)
    assert [pool["name"] for pool in shown["pools"]] == ["short", "long"]
    assert "context_tokens: 4096" in runner.invoke(app, ["config", "show"]).stdout


def test_stopped_cluster(runner: CliRunner) -> None:
    assert "not running" in runner.invoke(app, ["status"]).stdout
    assert json.loads(runner.invoke(app, ["status", "--json"]).stdout)["phase"] == "stopped"
    assert "Nothing was running" in runner.invoke(app, ["down"]).stdout
    result = runner.invoke(app, ["logs", "gateway"])
    assert result.exit_code == 1
    assert "longreach up" in result.stderr
    result = runner.invoke(app, ["config", "reload"])
    assert result.exit_code == 1
    assert "no cluster is running" in result.stderr
    assert "Traceback" not in result.output


def test_models(runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGREACH_CACHE", str(tmp_path / "cache"))
    listed = {entry["id"]: entry for entry in json.loads(runner.invoke(app, ["models", "list", "--json"]).stdout)}
    assert {"demo", "tiny", "qwen3-4b-instruct-2507", "qwen3-0.6b"} <= listed.keys()
    assert listed["demo"]["path"] is None
    assert "qwen3-4b-instruct-2507" in runner.invoke(app, ["models", "list"]).stdout
    missing = runner.invoke(app, ["models", "path", "demo"])
    assert missing.exit_code == 1
    assert "longreach models pull demo" in missing.stderr


def test_no_gateway_is_one_clear_message(runner: CliRunner) -> None:
    for command in (["chat", "hi"], ["demo"]):
        result = runner.invoke(app, [*command, "--url", "http://127.0.0.1:9"])
        assert result.exit_code == 1
        assert "no gateway answers at http://127.0.0.1:9" in result.stderr
        assert "Traceback" not in result.output


def test_chat_without_a_question(runner: CliRunner) -> None:
    assert runner.invoke(app, ["chat", "--json"], input="").exit_code == 2
