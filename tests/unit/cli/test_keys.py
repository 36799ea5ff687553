"""`longreach keys`: what it prints, and what is in the file afterwards."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli.keys import app
from cluster.config.keys import digest_of, load_keys
from cluster.core.errors import ConfigError, SetupError
from cluster.exclusive import hold

MODELS = 'models: [{id: m}]\npools: [{name: s, model: m, context_tokens: 100, endpoints: [{url: "http://a"}]}]\n'


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGREACH_STATE", str(tmp_path / "state"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / "keys.yaml"


def run(*arguments: str | Path) -> tuple[str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def fails(*arguments: str | Path) -> SetupError:
    with pytest.raises(SetupError) as caught:
        run(*arguments)
    return caught.value


def test_a_key_is_printed_once_and_kept_as_a_hash(path: Path) -> None:
    printed, told = run("create", "--tenant", "acme", "--file", path, "--comment", "laptop")
    key = printed.strip()
    assert key.startswith("lr-")
    assert len(base64.urlsafe_b64decode(key.removeprefix("lr-") + "=")) == 32
    (entry,) = load_keys(path).keys
    assert (entry.tenant, entry.role, entry.comment) == ("acme", "client", "laptop")
    assert bytes.fromhex(entry.sha256) == digest_of(key)
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert entry.id in told
    assert key not in told


def test_keys_are_added_listed_and_revoked(path: Path) -> None:
    run("create", "-t", "acme", "-f", path)
    made = json.loads(run("create", "-t", "ops", "--role", "admin", "-f", path, "--json")[0])
    assert made["key"].startswith("lr-")
    listed = json.loads(run("list", "-f", path, "--json")[0])
    assert [(key["tenant"], key["role"]) for key in listed] == [("acme", "client"), ("ops", "admin")]
    assert set(listed[0]) == {"id", "tenant", "role", "created", "comment"}
    table = run("list", "-f", path)[0]
    assert made["id"] in table
    assert digest_of(made["key"]).hex() not in table
    assert json.loads(run("revoke", made["id"], "-f", path, "--json")[0])["keys_left"] == 1
    run("revoke", listed[0]["id"], "-f", path)
    assert load_keys(path).keys == []
    assert fails("revoke", made["id"], "-f", path).problem.endswith(f"has no key {made['id']}")


def test_a_bad_tenant_changes_nothing(path: Path) -> None:
    run("create", "-t", "acme", "-f", path)
    before = path.read_bytes()
    assert fails("create", "-t", "Acme Inc", "-f", path).problem.startswith("--tenant: ")
    assert path.read_bytes() == before
    result = CliRunner().invoke(app, ["create", "-t", "acme", "--role", "root", "-f", str(path)])
    assert result.exit_code == 2


def test_a_broken_file_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("keys: [{id: x}]\n")
    with pytest.raises(ConfigError, match="is required"):
        run("create", "-t", "acme", "-f", path)
    assert path.read_text() == "keys: [{id: x}]\n"


def test_two_at_once_lose_nothing(path: Path) -> None:
    path.parent.mkdir()
    with hold(path.with_name(".keys.yaml.lock"), purpose="longreach keys"):
        assert "is being changed" in fails("create", "-t", "acme", "-f", path).problem
    run("create", "-t", "acme", "-f", path)


def test_the_configuration_names_the_file(path: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(f'{MODELS}gateway: {{auth: {{keys_file: "{path}"}}}}\n')
    run("create", "-t", "acme", "--config", config)
    assert len(load_keys(path).keys) == 1
    config.write_text(MODELS)
    assert "names no keys file" in fails("list", "--config", config).problem
    assert "no cluster runs" in fails("list").problem
