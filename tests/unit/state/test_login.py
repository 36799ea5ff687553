"""The state store's login: from the configuration to an address, and what must never be shown."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path

import pytest
from redis.connection import parse_url
from redis.exceptions import ConnectionError as RedisConnectionError

from cluster.config import RedisSection, parse_config
from cluster.core.errors import ConfigError, SetupError
from cluster.state.leases import connect
from cluster.state.login import StateServer, state_address, state_server

PASSWORD = "p@ss/w:rd?#%20 ü"
BODY = "models: [{id: m}]\npools: [{name: p, model: m, context_tokens: 64}]\nredis: "


def section(**keys: str) -> RedisSection:
    return RedisSection(**keys)  # type: ignore[arg-type] # pydantic checks


def no_secret(_name: str) -> str | None:
    return None


def test_no_server_and_no_login() -> None:
    assert state_address(section(), no_secret) is None
    assert state_server(section()) is None
    assert state_address(section(state_url="redis://r:7000/3"), no_secret) == "redis://r:7000/3"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://r:7000/3", {"host": "r", "port": 7000, "db": 3}),
        ("rediss://r:7000/3", {"host": "r", "port": 7000, "db": 3, "ssl_ca_certs": "/etc/my ca/ca.crt"}),
        ("rediss://r?db=1", {"host": "r", "db": 1, "ssl_ca_certs": "/etc/my ca/ca.crt"}),
        ("redis://[::1]:7000", {"host": "::1", "port": 7000}),
        ("unix:///run/r.sock?db=2", {"path": "/run/r.sock", "db": 2}),
    ],
)
def test_redis_py_reads_back_what_went_in(url: str, expected: dict[str, object]) -> None:
    made = section(
        state_url=url, state_user="long:reach@", state_password_env="NAME", state_ca_file="/etc/my ca/ca.crt"
    )
    address = state_address(made, {"NAME": PASSWORD}.get)
    assert address is not None
    found = parse_url(address)
    found.pop("connection_class", None)
    assert found == {**expected, "username": "long:reach@", "password": PASSWORD}


def test_a_password_alone_is_the_default_users() -> None:
    address = state_address(section(state_url="redis://r", state_password_env="NAME"), {"NAME": "x"}.get)
    assert parse_url(str(address)) == {"host": "r", "password": "x"}


def test_the_clusters_own_server_asks_for_none() -> None:
    made = section(state_url="redis://r", state_password_env="NAME")
    assert state_address(made, no_secret, own="redis://127.0.0.1:7/0") == "redis://127.0.0.1:7/0"


def test_a_password_is_in_no_text_that_may_be_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", PASSWORD)
    server = state_server(section(state_url="redis://127.0.0.1:1", state_user="u", state_password_env="NAME"))
    assert server is not None
    client = connect(server)
    for text in (repr(server), repr(client), repr(client.connection_pool), repr(pickle.dumps(server))):
        assert PASSWORD not in text
    with pytest.raises(RedisConnectionError) as raised:
        asyncio.run(client.ping())
    assert PASSWORD not in str(raised.value)


def test_what_is_wrong_with_a_password_is_said_without_it(tmp_path: Path) -> None:
    file = tmp_path / "password"

    def problem(server: StateServer) -> str:
        with pytest.raises(SetupError) as raised:
            server.password(no_secret)
        return str(raised.value)

    missing = StateServer(url="redis://r", password_env="NAME")
    assert "state_password_env: the variable NAME" in problem(missing)
    in_file = StateServer(url="redis://r", password_file=str(file))
    assert "cannot be read" in problem(in_file)
    file.write_text(PASSWORD)
    file.chmod(0o644)
    assert "may be read by everybody" in problem(in_file)
    file.chmod(0o440)
    assert in_file.password(no_secret) == PASSWORD
    for content, said in ((b" \n", "is empty"), (b"\xff", "no UTF-8"), (b"x" * 5000, "is longer than 4096 bytes")):
        file.chmod(0o600)
        file.write_bytes(content)
        assert said in problem(in_file)


def test_a_file_that_is_gone_is_a_store_that_is_away(tmp_path: Path) -> None:
    """A replica or a gateway goes on without it, as through any outage."""
    client = connect(StateServer(url="redis://r", password_file=str(tmp_path / "none")))
    provider = client.connection_pool.connection_kwargs["credential_provider"]
    with pytest.raises(RedisConnectionError, match="cannot be read"):
        provider.get_credentials()


@pytest.mark.parametrize(
    ("redis", "field"),
    [
        ("{state_url: 'redis://user:hunter2@r'}", "redis.state_url"),
        ("{state_url: 'redis://user@r'}", "redis.state_url"),
        ("{state_url: 'redis://r?password=hunter2'}", "redis.state_url"),
        ("{state_url: 'redis://:hunter2@r', state_user: u}", "redis.state_url"),
        ("{state_url: 'redis://r', state_password_env: A, state_password_file: /b}", "redis"),
        ("{state_user: u}", "redis"),
        ("{state_ca_file: /ca.pem}", "redis"),
    ],
)
def test_what_contradicts_itself_is_a_mistake_that_shows_no_password(redis: str, field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(BODY + redis)
    assert [mistake.field for mistake in raised.value.mistakes] == [field]
    assert "hunter2" not in str(raised.value)
