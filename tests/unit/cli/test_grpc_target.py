"""Where commands that speak gRPC find the gateway, what others say of it, and what is said when it is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.cli.target import DEFAULT_GRPC_URL, grpc_url
from cluster.core.errors import SetupError
from cluster.local.journal import Journal, Phase
from cluster.local.rundir import RunDir
from cluster.local.up import UpResult

CONFIG = """
cluster: {{name: {name}}}
models: [{{id: m}}]
pools: [{{name: p, model: m, context_tokens: 100, endpoints: [{{url: 'http://127.0.0.1:9'}}]}}]
gateway: {{host: 127.0.0.2, port: {port}, grpc: {{enabled: {enabled}}}}}
"""


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGREACH_STATE", str(tmp_path / "state"))


def listening(tmp_path: Path, name: str, **ports: int) -> RunDir:
    """The traces of a cluster whose gateway listens on `ports`."""
    run_dir = RunDir(root=tmp_path / "state" / name)
    run_dir.root.mkdir(parents=True)
    run_dir.gateway_ready.write_text(json.dumps({"pid": 1, **ports}), encoding="utf-8")
    Journal(run="r", phase=Phase.RUNNING, source="c", url="http://127.0.0.2:7").save(run_dir.journal)
    return run_dir


def written(tmp_path: Path, *, port: int = 7, enabled: str = "true") -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG.format(name="other", port=port, enabled=enabled), encoding="utf-8")
    return path


def test_the_running_gateway_says_where(tmp_path: Path) -> None:
    listening(tmp_path, "local", port=7, grpc_port=9)
    listening(tmp_path, "other", port=7, grpc_port=11)
    assert grpc_url(None, None) == "grpc://127.0.0.2:9"
    assert grpc_url(None, written(tmp_path)) == "grpc://127.0.0.2:11"
    assert grpc_url("gateway:5", None) == "gateway:5", "an address is said outright"


def test_without_a_running_gateway_it_is_where_one_would_listen(tmp_path: Path) -> None:
    assert grpc_url(None, None) == DEFAULT_GRPC_URL
    assert grpc_url(None, written(tmp_path)) == "grpc://127.0.0.2:9"
    with pytest.raises(SetupError, match="cluster other is not running"):
        grpc_url(None, written(tmp_path, port=0))


def test_a_gateway_may_serve_no_grpc(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="serves no gRPC"):
        grpc_url(None, written(tmp_path, enabled="false"))
    listening(tmp_path, "local", port=7)
    with pytest.raises(SetupError, match="serves no gRPC"):
        grpc_url(None, None)


@pytest.mark.parametrize("command", [["chat", "hi", "--grpc"], ["drain", "r"]])
def test_no_gateway_is_one_clear_message(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--url", "127.0.0.1:9"])
    assert result.exit_code == 1
    assert "no gateway answers gRPC at 127.0.0.1:9" in result.stderr
    assert "remedy: start a cluster with `longreach up`" in result.stderr
    assert "Traceback" not in result.output


def test_the_status_names_the_address(tmp_path: Path) -> None:
    run_dir = listening(tmp_path, "local", port=7, grpc_port=9)
    run_dir.config.write_text(CONFIG.format(name="local", port=7, enabled="true"), encoding="utf-8")
    told = json.loads(CliRunner().invoke(app, ["status", "--json"]).stdout)
    assert (told["url"], told["grpc_url"]) == ("http://127.0.0.2:7", "grpc://127.0.0.2:9")


@pytest.mark.parametrize(("grpc_url", "last"), [("grpc://127.0.0.1:9", "/v1, grpc://127.0.0.1:9"), (None, "/v1")])
def test_up_ends_with_the_addresses(monkeypatch: pytest.MonkeyPatch, grpc_url: str | None, last: str) -> None:
    up = UpResult(url="http://127.0.0.1:7", grpc_url=grpc_url, model="m", was_running=True, ready_after_s={}, total_s=1)
    monkeypatch.setattr("cluster.local.up.up", lambda *_: up)
    said = CliRunner().invoke(app, ["up", "--no-question"]).stdout
    assert said.splitlines()[1] == f"Longreach is running: http://127.0.0.1:7{last}"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "gateway", "gateway:http", "grpc://gateway:1/v1", "", ":1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    result = CliRunner().invoke(app, ["drain", "r", "--url", url])
    assert result.exit_code == 1
    assert "is no address of gRPC" in result.stderr


def test_a_drain_that_is_undone_has_no_length() -> None:
    assert CliRunner().invoke(app, ["drain", "r", "--undo", "--for-s", "3"]).exit_code == 2
