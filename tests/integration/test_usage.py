"""Usage in a real Valkey server: exactly once, whatever is killed; and what `longreach usage` then says."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from cluster.cli.usage import usage as usage_command
from cluster.core.tenant import KeyId, TenantName
from cluster.core.usage import RETENTION_DAYS, UsageBatch, UsageCounts, UsageGroup, UsageKey, grouped, total
from cluster.sockets import free_port
from cluster.state.embedded import server_command, url, wait_until_ping
from cluster.state.leases import connect
from cluster.state.usage import MARK_TTL_S, UsageStore
from cluster.state.usage_files import FileTotals, segments
from cluster.state.usage_report import UsageReport, read_usage
from services.gateway.usage import LocalTotals, Usage
from services.gateway.usage_journal import UsageJournal

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
CLUSTER = "test"
DAYS = ("2026-11-22", "2026-11-23")
ONE = UsageCounts(requests=1, prompt_tokens=100, cached_tokens=64, output_tokens=7)
TODAY = time.strftime("%Y-%m-%d", time.gmtime())

WORKER = """
import asyncio, itertools, sys, time
from pathlib import Path
import uvloop
from cluster.core.usage import UsageCounts
from cluster.state.leases import connect
from cluster.state.usage import UsageStore
from cluster.state.usage_files import FileTotals
from services.gateway import usage as module
from services.gateway.usage import LocalTotals, Usage
from services.gateway.usage_journal import UsageJournal

folder, url, tenant, writer = sys.argv[1:]
module.FLUSH_S = 0.003

async def main():
    totals = UsageStore(connect(url), "test") if url else LocalTotals(FileTotals(Path(folder)))
    journal = UsageJournal(Path(folder), writer=writer, call_soon=asyncio.get_running_loop().call_soon)
    usage = Usage(journal, totals, clock=time.time)
    following = asyncio.create_task(usage.follow())
    for number in itertools.count():
        usage.record(tenant, "k1", "demo", UsageCounts(requests=1, prompt_tokens=number, output_tokens=2 * number))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        print(number, flush=True)  # whoever reads it was "answered" a turn of the loop ago

uvloop.run(main())
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(server_command(tmp_path / "valkey", free_port()), stdout=subprocess.DEVNULL) as process:
        wait_until_ping(port_of(process))
        yield process
        process.kill()


@pytest.fixture
def state_url(server: subprocess.Popen[bytes]) -> str:
    return url(port_of(server))


def port_of(process: subprocess.Popen[bytes]) -> int:
    assert isinstance(process.args, tuple)
    configuration = Path(process.args[1]).read_text()
    return int(next(line.split()[1] for line in configuration.splitlines() if line.startswith("port ")))


def key(day: str = DAYS[0], tenant: str = "acme", model: str = "demo") -> UsageKey:
    return UsageKey(day=day, tenant=TenantName(tenant), key_id=KeyId("k1"), model=model)


def started(folder: Path, used_url: str, tenant: str) -> subprocess.Popen[bytes]:
    """A worker that records for ever, as a writer named after its tenant."""
    command = [sys.executable, "-c", WORKER, str(folder), used_url, tenant, f"{tenant.replace('-', 'w')}aaaaaaaa"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


async def test_a_batch_counts_once_and_an_older_one_not_at_all(state_url: str) -> None:
    async with connect(state_url) as client:
        store = UsageStore(client, CLUSTER)
        big = UsageCounts(requests=1, prompt_tokens=2**52)
        first = UsageBatch(writer="a", sequence=0, sums={key(): ONE, key(DAYS[1], 'x" ü\n'): big})
        second = UsageBatch(writer="a", sequence=3, sums={key(): ONE})
        assert [await store.apply(batch) for batch in (first, first, second, first, second)] == [
            True,
            False,
            True,
            False,
            False,
        ]
        assert await store.apply(UsageBatch(writer="b", sequence=0, sums={key(): ONE}))
        found = await store.read(DAYS, writers=["a", "b", "c"])
        assert found.sums == {key(): ONE + ONE + ONE, key(DAYS[1], 'x" ü\n'): big}
        assert found.marks == {"a": 3, "b": 0}
        assert (await store.read(DAYS[1:])).sums == {key(DAYS[1], 'x" ü\n'): big}
        assert (await UsageStore(client, "another").read(DAYS)).sums == {}


async def test_everything_in_redis_ends_some_day(state_url: str) -> None:
    async with connect(state_url) as client:
        store = UsageStore(client, CLUSTER)
        await store.apply(UsageBatch(writer="a", sequence=0, sums={key(): ONE}))
        lives_s = {name: await client.ttl(name) for name in await client.keys("*")}
    assert len(lives_s) == 2
    assert lives_s["longreach:{test}:usage-mark:a"] == pytest.approx(MARK_TTL_S, abs=5)
    assert lives_s[f"longreach:{{test}}:usage:{DAYS[0]}"] == pytest.approx(RETENTION_DAYS * 86_400, abs=5)


async def test_a_store_that_comes_and_goes(server: subprocess.Popen[bytes], tmp_path: Path, state_url: str) -> None:
    """A stopped server answers late: what timed out may have been added, and still counts once."""
    async with connect(state_url) as client:
        journal = UsageJournal(tmp_path / "usage", writer="a" * 8, call_soon=asyncio.get_running_loop().call_soon)
        usage = Usage(journal, UsageStore(client, CLUSTER), clock=lambda: 0.0)
        day = "1970-01-01"
        for number in range(3):
            server.send_signal(signal.SIGSTOP if number == 1 else signal.SIGCONT)
            for _ in range(10):
                usage.record(TenantName("acme"), KeyId("k1"), "demo", ONE)
            # The first flush after an outage hands in what waited, the next one the rest.
            assert await usage.flush() is (number == 0)
        found = await read_usage(folder=journal.folder, state_url=state_url, cluster=CLUSTER, days=[day])
        assert total(found.sums).requests == 30
        assert await usage.flush()
        found = await read_usage(folder=journal.folder, state_url=state_url, cluster=CLUSTER, days=[day])
        assert (total(found.sums).requests, found.pending_requests) == (30, 0)
        await usage.close()


@pytest.mark.parametrize("has_store", [True, False])
async def test_workers_killed_at_any_moment_lose_and_double_nothing(
    tmp_path: Path, state_url: str, has_store: bool
) -> None:
    folder, used_url = tmp_path / "usage", state_url if has_store else ""
    answered = {f"t{life}-{number}": 0 for life in range(3) for number in range(2)}
    for life in range(3):
        names = [f"t{life}-{number}" for number in range(2)]
        workers = [started(folder, used_url, name) for name in names]
        for name, process in zip(names, workers, strict=True):
            assert process.stdout is not None
            while answered[name] < 300 + 77 * life:
                answered[name] = int(await asyncio.to_thread(process.stdout.readline))
        for name, process in zip(names, workers, strict=True):
            process.kill()
            rest = process.communicate()[0].split(b"\n")[:-1]
            answered[name] = max(answered[name], *map(int, rest), 0)
            assert process.returncode == -signal.SIGKILL

    async def report() -> UsageReport:
        return await read_usage(folder=folder, state_url=used_url or None, cluster=CLUSTER, days=[TODAY])

    before = await report()
    async with connect(state_url) as client:
        journal = UsageJournal(folder, writer="c" * 8, call_soon=asyncio.get_running_loop().call_soon)
        totals = UsageStore(client, CLUSTER) if has_store else LocalTotals(FileTotals(folder))
        usage = Usage(journal, totals, clock=time.time)
        await usage.adopt()
        await usage.close()
    after = await report()
    assert after.sums == before.sums
    assert after.pending_requests == 0
    assert segments(folder) == []
    for (tenant,), counts in grouped(after.sums, UsageGroup.TENANT).items():
        requests = counts.requests
        # One more may have been recorded whose answer we never read.
        assert answered[tenant] + 1 <= requests <= answered[tenant] + 2
        assert counts.prompt_tokens == requests * (requests - 1) // 2
        assert counts.output_tokens == requests * (requests - 1)
    assert len(after.sums) == len(answered)


CONFIG = """
cluster: {{name: test}}
models: [{{id: demo}}]
pools: [{{name: short, model: demo, context_tokens: 4096, endpoints: [{{url: "http://127.0.0.1:9"}}]}}]
redis: {{state_url: "{url}"}}
"""


async def test_the_command_reads_the_store_and_the_journal(
    tmp_path: Path, state_url: str, monkeypatch: pytest.MonkeyPatch, server: subprocess.Popen[bytes]
) -> None:
    monkeypatch.setenv("LONGREACH_STATE", str(tmp_path / "state"))
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(url=state_url))
    async with connect(state_url) as client:
        store = UsageStore(client, CLUSTER)
        await store.apply(UsageBatch(writer="a" * 8, sequence=0, sums={key(TODAY): ONE, key(TODAY, "b"): ONE}))
    journal = UsageJournal(tmp_path / "state" / "test" / "usage", writer="a" * 8, call_soon=lambda _write: None)
    journal.record(key(TODAY, "already in the totals"), ONE)
    journal.write()
    journal.seal()
    journal.record(key(TODAY, model="other"), ONE)
    journal.write()

    asked = lambda *options: _asked("--config", str(config), *options)  # noqa: E731 - a shorthand
    answer = json.loads(await asked("--json"))
    assert [(row["tenant"], row["requests"], row["prompt_tokens"]) for row in answer["rows"]] == [
        ("acme", 2, 200),
        ("b", 1, 100),
    ]
    assert (answer["total"]["requests"], answer["pending_requests"], answer["error"]) == (3, 1, "")
    rows = list(csv.DictReader((await asked("--csv", "--by", "model")).splitlines()))
    assert [(row["model"], row["output_tokens"]) for row in rows] == [("demo", "14"), ("other", "7")]
    table = await asked("--by", "key")
    assert "total" in table
    assert "300" in table
    server.kill()
    server.wait()
    result = await _result("--config", str(config), "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["error"]
    assert answer["total"]["requests"] == 2


async def _asked(*options: str) -> str:
    result = await _result(*options)
    assert result.exit_code == 0, result.output
    return result.stdout


async def _result(*options: str) -> Result:
    app = typer.Typer()
    app.command()(usage_command)
    # The command runs an event loop of its own.
    return await asyncio.to_thread(CliRunner().invoke, app, list(options))
