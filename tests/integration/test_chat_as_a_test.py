"""`longreach chat` as a test of an installation: over both APIs, with a key and TLS, while the first replica starts."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.cli.chat import ASK_AGAIN_S, Patience
from cluster.local.client import GatewayRefusedError
from cluster.sockets import free_port
from tests.authority import Authority
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Leases, Running, lease, leases_of, running
from tests.gateway_process import config_of, gateway_process

pytestmark = pytest.mark.integration
APIS = pytest.mark.parametrize("api", ["rest", "grpc"])


async def chat(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["chat", "Say hello.", *arguments])


def where(gateway: Running, api: str) -> tuple[str, ...]:
    return ("--url", gateway.url) if api == "rest" else ("--grpc", "--url", gateway.grpc_address)


@APIS
async def test_it_waits_for_the_first_replica(api: str) -> None:
    store = Leases()
    async with serve(FakeEngine()) as engine, running(store=store) as gateway:
        asking = asyncio.create_task(chat(*where(gateway, api), "--wait-s", "60", "--json"))

        async def is_refused() -> re.Match[str] | None:
            return re.search(r'longreach_refused_total{reason="no_replica_available"} [1-9]', await gateway.metrics())

        await until(is_refused, timeout_s=20, what="a first refusal")
        store.held.append(lease("short", engine.url))
        done = await asking
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["output_tokens"]
    assert done.stderr.count("waiting: the gateway answered") == 1


@APIS
async def test_it_gives_up_with_the_reason(api: str) -> None:
    async with running(store=Leases()) as gateway:
        refused = await chat(*where(gateway, api), "--wait-s", "0.5")
    assert refused.exit_code == 1
    assert "longreach: the gateway answered" in refused.stderr
    address = f"127.0.0.1:{free_port()}"
    nobody = await chat(*(("--url", f"http://{address}") if api == "rest" else ("--grpc", "--url", address)))
    assert nobody.exit_code == 1
    assert "no gateway answers" in nobody.stderr


@APIS
async def test_what_does_not_pass_is_not_waited_for(api: str) -> None:
    async with serve(FakeEngine()) as engine, running(store=leases_of(short=engine)) as gateway:
        unknown = await chat(*where(gateway, api), "--model", "unknown", "--wait-s", "600")
    assert unknown.exit_code == 1
    assert "'unknown' does not exist" in unknown.stderr


@APIS
async def test_an_answer_without_tokens_is_none(api: str) -> None:
    async with serve(FakeEngine(tokens=0)) as engine, running(store=leases_of(short=engine)) as gateway:
        empty = await chat(*where(gateway, api))
    assert empty.exit_code == 1
    assert "the answer has no tokens" in empty.stderr


@APIS
async def test_an_answer_that_takes_too_long_is_given_up(api: str) -> None:
    engine = FakeEngine(tokens=100_000, token_delay_s=0.05)
    async with serve(engine), running(store=leases_of(short=engine)) as gateway:
        late = await chat(*where(gateway, api), "--timeout-s", "1")
        await engine.aborted.wait()
    assert late.exit_code == 1
    assert "in time" in late.stderr or "DEADLINE_EXCEEDED" in late.stderr


async def test_the_key_comes_from_the_variable_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys.yaml"
    made = CliRunner().invoke(app, ["keys", "create", "-t", "t", "--file", str(keys), "--json"])
    monkeypatch.setenv("TEST_KEY", json.loads(made.stdout)["key"])
    config = f"{TWO_POOLS}gateway: {{auth: {{keys_file: {keys}}}}}\n"
    async with serve(FakeEngine()) as engine, running(config, store=leases_of(short=engine)) as gateway:
        for api in ("rest", "grpc"):
            named = await chat(*where(gateway, api), "--api-key-env", "TEST_KEY")
            assert named.exit_code == 0, named.output
            assert (await chat(*where(gateway, api))).exit_code == 1
            unset = await chat(*where(gateway, api), "--api-key-env", "NO_SUCH_KEY")
            assert "the variable NO_SUCH_KEY is not set" in unset.stderr


async def test_a_ca_of_ones_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    cert_file, key_file = authority.issue("localhost")
    async with serve(FakeEngine()) as engine:
        config = config_of({"one": [engine.url]})
        config["gateway"]["tls"] = {"cert_file": cert_file, "key_file": key_file}
        async with gateway_process(tmp_path, config, LONGREACH_STATE=str(tmp_path)) as gateway:
            rest = ("--url", f"https://localhost:{gateway.port}")
            grpc = ("--grpc", "--url", f"grpcs://localhost:{gateway.grpc_port}")
            for address in (rest, grpc):
                trusted = await chat(*address, "--ca-file", str(authority.file))
                assert trusted.exit_code == 0, trusted.output
                assert (await chat(*address)).exit_code == 1
            assert "holds no certificate" in (await chat(*rest, "--ca-file", key_file)).stderr


def test_patience_ends() -> None:
    now_s, asked = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    def refuse() -> None:
        asked.append(now_s)
        raise GatewayRefusedError("not yet", may_pass=True)

    with pytest.raises(GatewayRefusedError, match="not yet"):
        Patience(wait_s=2.5 * ASK_AGAIN_S, clock=lambda: now_s, sleep=sleep).ask(refuse)
    assert asked == [0, ASK_AGAIN_S, 2 * ASK_AGAIN_S]
