"""Keys that change while requests run, and doors that must not be open."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.config import Config, parse_config
from cluster.config.keys import digest_of
from cluster.core.errors import ConfigError, SetupError
from cluster.core.tenant import Identity
from services.gateway import access as module
from services.gateway.access import Access, is_loopback, require_safe_listener

MODELS = 'models: [{id: m}]\npools: [{name: s, model: m, context_tokens: 100, endpoints: [{url: "http://a"}]}]\n'


def config(gateway: str = "", tenants: str = "") -> Config:
    return parse_config(MODELS + (f"gateway: {{{gateway}}}\n" if gateway else "") + tenants)


def with_keys(path: Path, gateway: str = "", tenants: str = "") -> Config:
    return config(f'auth: {{keys_file: "{path}"}}, {gateway}', tenants)


def write(path: Path, *keys: str) -> None:
    entries = "".join(
        f"  - {{id: {key}, tenant: acme, sha256: {digest_of(key).hex()}, created: 2026-11-03}}\n" for key in keys
    )
    partial = path.with_suffix(".partial")
    partial.write_text(f"keys:\n{entries}" if keys else "keys: []\n")
    partial.chmod(0o600)
    partial.replace(path)


def damage(path: Path) -> None:
    path.write_text("keys:\n  - {id: x}\n")


def remove(path: Path) -> None:
    path.unlink()


def knows(access: Access, key: str) -> bool:
    return isinstance(access.identify(f"Bearer {key}", None), Identity)


async def until(wanted: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if wanted():
                return
            await asyncio.sleep(0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    write(path, "one")
    return path


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    assert is_loopback(host)
    require_safe_listener(config(f'host: "{host}", admin: {{host: "{host}"}}'))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "", "no-such-host.invalid"])
@pytest.mark.parametrize("field", ["host", "admin"])
def test_an_open_door_without_keys_is_refused(host: str, field: str) -> None:
    opened = config(f'host: "{host}"' if field == "host" else f'admin: {{host: "{host}"}}')
    with pytest.raises(SetupError, match="no API keys") as caught:
        Access(opened)
    assert "longreach keys create" in caught.value.remedy
    assert f"gateway.{'host' if field == 'host' else 'admin.host'}" in caught.value.problem


def test_with_keys_any_door_may_open(path: Path) -> None:
    access = Access(with_keys(path, 'host: "0.0.0.0", admin: {host: "0.0.0.0"}'))
    assert knows(access, "one")


def test_a_gateway_does_not_start_on_a_broken_file(path: Path, tmp_path: Path) -> None:
    path.write_text("keys: 1\n")
    with pytest.raises(ConfigError, match=r"keys\.yaml:1: keys"):
        Access(with_keys(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        Access(with_keys(tmp_path / "none.yaml"))


async def test_a_reload_takes_keys_and_tenants(path: Path) -> None:
    access = Access(with_keys(path))
    write(path, "one", "two")
    assert await access.reload(with_keys(path, tenants="tenants: [{name: acme, requests_per_minute: 7}]\n"))
    found = access.identify(None, "two")
    assert isinstance(found, Identity)
    assert found.tenant.requests_per_minute == 7


async def test_a_broken_file_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    access = Access(with_keys(path))
    damage(path)
    assert not await access.reload(with_keys(path))
    assert knows(access, "one")
    assert "keys not reloaded" in caplog.text
    assert "keys.yaml:2: keys[0].tenant: is required" in caplog.text


async def test_a_reload_never_opens_a_door(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    access = Access(with_keys(path, 'host: "0.0.0.0"'))
    # The new file names loopback, but this process goes on to listen where it did.
    assert not await access.reload(config())
    assert not isinstance(access.identify(None, None), Identity)
    assert "keys not reloaded: gateway.host is 0.0.0.0" in caplog.text
    closed = Access(with_keys(path))
    assert await closed.reload(config())
    assert isinstance(closed.identify(None, None), Identity)


async def test_a_changed_file_is_noticed(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    caplog.set_level(logging.INFO)
    access = Access(with_keys(path))
    following = asyncio.create_task(access.follow())
    write(path, "two")
    await until(lambda: knows(access, "two"))
    assert not knows(access, "one"), "revoked"
    damage(path)
    await until(lambda: "keys not reloaded" in caplog.text)
    await asyncio.sleep(0.1)
    told = caplog.text.count("keys not reloaded")
    await asyncio.sleep(0.1)
    assert caplog.text.count("keys not reloaded") == told, "told once, not at every look"
    assert knows(access, "two")
    remove(path)
    await until(lambda: "cannot be read" in caplog.text)
    assert knows(access, "two")
    write(path, "three")
    await until(lambda: knows(access, "three"))
    following.cancel()


async def test_reading_many_keys_does_not_hold_requests_up(path: Path) -> None:
    write(path, *(f"k{number}" for number in range(3000)))
    access = Access(with_keys(path))
    reloading = asyncio.create_task(access.reload(with_keys(path)))
    longest_s = turns = 0.0
    while not reloading.done():
        started = time.monotonic()
        await asyncio.sleep(0.001)
        longest_s = max(longest_s, time.monotonic() - started)
        turns += 1
    assert await reloading
    assert turns > 3, f"the loop went on; longest pause {longest_s * 1000:.0f} ms"
