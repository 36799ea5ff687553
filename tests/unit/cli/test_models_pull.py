"""`longreach models pull` for a whole configuration, as init containers and jobs call it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.local.weights import PLAIN_EVERY_S, _plain_progress

CONFIG = """
models:
  - {id: mine, source: tiny}
  - {id: mounted, source: FOLDER}
  - {id: away}
pools:
  - {name: short, model: mine, context_tokens: 64}
  - {name: long, model: mine, context_tokens: 640}
  - {name: other, model: mounted, context_tokens: 64}
  - {name: foreign, model: away, context_tokens: 64, endpoints: [{url: "http://127.0.0.1:9"}]}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LONGREACH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG.replace("FOLDER", str(tmp_path / "mounted")))
    return path


def pull(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", "pull", *arguments])


def test_a_model_that_cannot_be_had(config: Path) -> None:
    refused = pull("--config", str(config))
    assert refused.exit_code == 1
    assert "mounted is not a folder" in refused.output
    result = pull("--config", str(config), "--keep-going", "--json")
    assert result.exit_code == 0
    mine, mounted = json.loads(result.stdout)
    assert mine["path"].endswith("/models/tiny/generated-1")
    assert mounted["path"] is None
    assert "mounted is not a folder" in mounted["error"]
    assert "goes on without" in result.stderr


def test_all_that_pools_with_replicas_need_and_nothing_else(config: Path, tmp_path: Path) -> None:
    assert pull("tiny").exit_code == 0
    (tmp_path / "mounted").symlink_to(tmp_path / "cache" / "models" / "tiny" / "generated-1")
    once = pull("--config", str(config))
    assert once.exit_code == 0, once.output
    again = pull("--config", str(config))
    assert again.stdout == once.stdout
    assert [Path(line).name for line in once.stdout.splitlines()] == ["generated-1", "generated-1"]


def test_tokenizers_only(config: Path, tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    result = pull("--config", str(config), "--tokenizer-only")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        str(tmp_path / "cache" / "models" / ".tokenizers" / "tiny" / "generated-1"),
        str(tmp_path / "mounted"),
    ]
    assert json.loads(pull("tiny", "--tokenizer-only", "--json").stdout)["path"] == result.stdout.splitlines()[0]


@pytest.mark.parametrize("arguments", [(), ("tiny", "--config", "x"), ("--config", "x", "--revision", "y")])
def test_a_name_or_a_configuration(arguments: tuple[str, ...]) -> None:
    assert pull(*arguments).exit_code == 2


def test_a_log_gets_a_line_now_and_then() -> None:
    console = Console(force_terminal=False, width=100, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    now_s = 0.0
    report = _plain_progress(console, clock=lambda: now_s)
    for second in range(int(2.5 * PLAIN_EVERY_S)):
        now_s = float(second)
        report("downloading", second * 10**6, 100 * 10**6)
    report("hashing", 0, None)
    assert console.export_text().splitlines() == [
        "  downloading (100 MB)", "  downloading 10% (100 MB)", "  downloading 20% (100 MB)", "  hashing",
    ]  # fmt: skip
