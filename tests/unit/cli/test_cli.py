"""The command line: what it accepts, prints and returns. Nothing here starts a cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.text import Text
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.cli.demo import pool_limits
from cluster.cli.status_view import last_error
from cluster.cli.target import gateway_url
from cluster.core.errors import SetupError
from cluster.local.journal import Journal, Phase
from cluster.local.observe import PoolStatus
from tests.listener import listener

ROOT = Path(__file__).parents[3]
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
    "command",
    [
        "up",
        "down",
        "status",
        "logs",
        "chat",
        "demo",
        "drain",
        "models",
        "gateway",
        "config",
        "config check",
        "k8s",
        "k8s doctor",
    ],
)
def test_every_command_has_help(runner: CliRunner, command: str) -> None:
    result = runner.invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage" in result.output


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom cluster.cli.app import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = ('ray', 'vllm', 'torch', 'httpx', 'redis', 'pydantic', 'kubernetes')\n"
        "print([name for name in heavy if name in sys.modules])"
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


STATIC = """
cluster: {{name: {name}}}
models: [{{id: m}}]
pools: [{{name: p, model: m, context_tokens: 100, endpoints: [{{url: 'http://127.0.0.1:9'}}]}}]
gateway: {{port: {port}}}
"""


def started(tmp_path: Path, name: str, url: str) -> Path:
    """The traces of a running cluster; its configuration file."""
    config = tmp_path / f"{name}.yaml"
    config.write_text(STATIC.format(name=name, port=0), encoding="utf-8")
    run_dir = tmp_path / "state" / name
    run_dir.mkdir(parents=True)
    shutil.copy(config, run_dir / "config.yaml")
    Journal(run="r", phase=Phase.RUNNING, source=str(config), url=url).save(run_dir / "processes.json")
    return config


@pytest.mark.parametrize("command", [["chat", "hi"], ["demo"]])
def test_config_names_the_cluster_to_talk_to(runner: CliRunner, tmp_path: Path, command: list[str]) -> None:
    started(tmp_path, "local", "http://127.0.0.1:9")
    other = started(tmp_path, "other", "http://127.0.0.1:11")
    result = runner.invoke(app, [*command, "--config", str(other)])
    assert "no gateway answers at http://127.0.0.1:11" in result.stderr
    assert "no gateway answers at http://127.0.0.1:9" in runner.invoke(app, command).stderr
    chosen = runner.invoke(app, [*command, "--config", str(other), "--url", "http://127.0.0.1:13"])
    assert "no gateway answers at http://127.0.0.1:13" in chosen.stderr, "an address is said outright"


def test_config_of_a_gateway_that_up_did_not_start(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(STATIC.format(name="alone", port=12345), encoding="utf-8")
    assert gateway_url(None, config) == "http://127.0.0.1:12345"
    config.write_text(STATIC.format(name="alone", port=0), encoding="utf-8")
    with pytest.raises(SetupError, match="cluster alone is not running"):
        gateway_url(None, config)


def test_demo_takes_the_limits_of_the_cluster_it_talks_to(tmp_path: Path) -> None:
    started(tmp_path, "local", "http://127.0.0.1:9")
    other = started(tmp_path, "other", "http://127.0.0.1:11")
    in_force = tmp_path / "state" / "other" / "config.yaml"
    in_force.write_text(in_force.read_text().replace("context_tokens: 100", "context_tokens: 777"), encoding="utf-8")
    assert pool_limits("m", other) == [777]
    assert pool_limits("m", None) == [100]


@pytest.mark.parametrize("target", ["up", "down", "status", "logs", "demo", "chat"])
def test_make_targets_hand_the_configuration_on(target: str) -> None:
    make = ["make", "-n", target, "CONFIG=my own.yaml", "BIN=/bin"]
    command = f"longreach {target}"
    (line,) = [line for line in subprocess.check_output(make, cwd=ROOT, text=True).splitlines() if command in line]
    assert "--config 'my own.yaml'" in line
    (line,) = [line for line in subprocess.check_output(make[:3], cwd=ROOT, text=True).splitlines() if command in line]
    assert "--config" not in line


def test_down_without_a_name_does_not_take_another_cluster(runner: CliRunner, tmp_path: Path) -> None:
    other = started(tmp_path, "production", "http://127.0.0.1:11")
    result = runner.invoke(app, ["down"])
    assert result.exit_code == 0
    assert f"production (longreach down --config {other})" in result.stdout.replace("\n", " ")
    assert (tmp_path / "state" / "production" / "processes.json").exists()
    assert json.loads(runner.invoke(app, ["down", "--json"]).stdout)["processes"] == 0
    assert (tmp_path / "state" / "production" / "processes.json").exists()
    assert runner.invoke(app, ["down", "--config", str(other)]).exit_code == 0
    assert not (tmp_path / "state" / "production" / "processes.json").exists()


@pytest.mark.parametrize("field", ["gateway", "ray"])
def test_up_names_who_holds_a_port(runner: CliRunner, tmp_path: Path, field: str) -> None:
    config = tmp_path / "c.yaml"
    with listener() as (pid, port):
        ports = {"gateway": (port, 0), "ray": (0, port)}[field]
        config.write_text(
            STATIC.format(name="taken", port=ports[0]).replace("name: taken", f"name: taken, ray_port: {ports[1]}"),
            encoding="utf-8",
        )
        result = runner.invoke(app, ["up", "--config", str(config)])
    assert result.exit_code == 1
    assert f"port {port}" in result.stderr
    assert f"is taken by process {pid} (" in result.stderr
    assert "somebody-elses-server" in result.stderr
    assert "remedy: stop that process, or set" in result.stderr


def test_models_fit_a_narrow_terminal(runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGREACH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    lines = runner.invoke(app, ["models", "list"]).stdout.splitlines()
    text = "\n".join(lines)
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert "…" not in text, "nothing is cut"
    assert lines[0].split() == ["model", "context", "KV/token", "weights", "dtype", "licence", "here"]
    assert len(lines) == 1 + len(json.loads(runner.invoke(app, ["models", "list", "--json"]).stdout)), "one line each"


def test_last_error_says_how_old_it_is() -> None:
    def shown(ready: int, age_s: float) -> Text:
        return last_error(
            PoolStatus(
                name="short",
                model="m",
                context_tokens=10,
                is_static=False,
                ready=ready,
                target=1,
                phase="ready",
                detail="",
                running=0,
                waiting=0,
                kv_use_ratio=0,
                last_error="out of memory",
                last_error_age_s=age_s,
                replicas=(),
            )
        )

    assert shown(0, 5).plain == "short: last error, 5 s ago: out of memory"
    assert shown(0, 5).style == "red"
    assert shown(1, 600).plain == "short: last error, 10 min ago: out of memory"
    assert shown(1, 600).style == "dim", "the pool serves all the same"
    assert "2 h ago" in shown(0, 7200).plain


def test_chat_without_a_question(runner: CliRunner) -> None:
    assert runner.invoke(app, ["chat", "--json"], input="").exit_code == 2
