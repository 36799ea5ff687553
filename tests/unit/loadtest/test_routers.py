from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster.config import parse_config
from cluster.config.keys import load_keys
from loadtest import own_environment
from loadtest.bench import peers
from loadtest.bench.engines import POOLS, Engines, leases_of
from loadtest.bench.peers import PEERS, Missing, Package, Peer, find_peer
from loadtest.bench.routers import Longreach, Place

ENGINE_URLS = ("http://127.0.0.1:9001", "http://127.0.0.1:9002")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(
        folder=tmp_path,
        core=0,
        engine_urls=ENGINE_URLS,
        state_url="redis://127.0.0.1:1/0",
        api_key="lr-x",
        variables={},
    )


@pytest.mark.parametrize("is_static", [False, True])
def test_our_gateway_runs_in_production_form(is_static: bool, place: Place) -> None:
    router = Longreach(name="longreach", is_static=is_static, tokenizer=place.folder)
    config = parse_config(yaml.safe_dump(router.configuration(place)))
    assert {pool.name: pool.context_tokens for pool in config.pools} == POOLS
    assert all(pool.is_static == is_static for pool in config.pools)
    assert config.gateway.routing.policy == "balanced"
    assert config.redis.state_url == place.state_url
    assert config.gateway.auth.keys_file is not None
    keys = load_keys(Path(config.gateway.auth.keys_file)).keys
    assert [key.sha256 for key in keys] == [hashlib.sha256(b"lr-x").hexdigest()]


def test_both_engines_are_leased_in_both_pools() -> None:
    leases = leases_of(Engines(ports=(9001, 9002)))
    assert {(lease.pool, lease.url) for lease in leases} == {(pool, url) for pool in POOLS for url in ENGINE_URLS}
    assert len({lease.replica_id for lease in leases}) == len(leases)


def peer(name: str, cache: Path, variables: dict[str, str] | None = None) -> Peer | Missing:
    return find_peer(name, cache=cache, variables=variables or {}, say=lambda _line: None)


def test_a_peer_nobody_knows_is_missing(tmp_path: Path) -> None:
    found = peer("nonesuch", tmp_path)
    assert isinstance(found, Missing)
    assert all(name in found.why for name in PEERS)


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_a_server_is_configured_for_both_engines(name: str, place: Place) -> None:
    program = place.folder / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    found = peer(name, place.folder, {"PATH": str(place.folder)})
    assert isinstance(found, Peer)
    config = Path(str(next(part for part in found.command(place, 8123) if str(part).endswith((".cfg", ".conf")))))
    text = config.read_text()
    assert all(url.removeprefix("http://") in text for url in ENGINE_URLS)
    assert "127.0.0.1:8123" in text


def test_a_server_that_is_not_installed_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name, **_how: None)
    found = peer("nginx", tmp_path)
    assert isinstance(found, Missing)
    assert "not installed" in found.why


def test_a_package_that_cannot_be_installed_is_missing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(argv: list[str], **_how: object) -> subprocess.CompletedProcess[str]:
        assert argv[0] == sys.executable
        Path(argv[-1]).mkdir(parents=True)
        return subprocess.CompletedProcess(argv, 1, "", "trace\nERROR: no such thing")

    monkeypatch.setattr(own_environment.subprocess, "run", refuse)
    found = peer("vllm-router", tmp_path)
    assert isinstance(found, Missing)
    assert "ERROR: no such thing" in found.why
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_here_is_not_installed_again(place: Place) -> None:
    package: Package = peers.PACKAGES["vllm-router"]
    program = place.folder / package.folder_name / "bin" / package.program
    program.parent.mkdir(parents=True)
    program.touch()
    found = peer("vllm-router", place.folder)
    assert isinstance(found, Peer)
    command = [str(part) for part in found.command(place, 8123)]
    assert command[0] == str(program)
    assert command[command.index("--port") + 1] == "8123"
    assert command[-2:] == list(ENGINE_URLS)
