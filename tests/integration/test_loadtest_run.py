"""`longreach loadtest run` as a user starts it: several processes, a file of the run, an early end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.record import Run
from loadtest.run_file import read_run
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import leases_of, running

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


async def start(*arguments: str | Path) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "cluster.cli", "loadtest", "run", "short-chat", *map(str, arguments)]
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stderr=pipe)


async def finish(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()


def sent(run: Run) -> list[tuple[int, float, str]]:
    return [(one.session, one.due_s, one.label) for one in run.records]


@pytest.mark.parametrize("api", ["rest", "grpc"])
async def test_processes_share_one_run(api: str, tmp_path: Path) -> None:
    engine = FakeEngine(tokens=4, cached_tokens=1, token_delay_s=0.001)
    async with serve(engine), running(store=leases_of(short=engine, long=engine)) as gateway:
        url = [gateway.grpc_address, "--grpc"] if api == "grpc" else [gateway.url]
        common = ["--url", *url, "--rate", "20", "--duration", "1.5", "--seed", "7", "--set", "output_tokens=4"]
        runs: list[Run] = []
        for processes in ("1", "3"):
            file = tmp_path / f"run-{processes}.jsonl.gz"
            code, out, errors = await finish(await start(*common, "--processes", processes, "--out", file))
            assert code == 0, out + errors
            runs.append(read_run(file))
    alone, shared = runs
    assert sent(alone) == sent(shared)
    assert len(shared.records) > 10
    assert (shared.api, shared.seconds, shared.stopped) == (api, 1.5, "")
    assert shared.client["processes"] == 3
    assert {"lag_p99_s", "late_p99_s", "cpu_ratio"} <= shared.client.keys()
    for record in shared.records:
        assert (record.status, record.error, record.output_tokens, record.cached_tokens) == (200, "", 4, 1)
    # What the engine counted is what the records say.
    words = sorted(len(seen.body["messages"][-1]["content"].split()) for seen in engine.seen[-len(shared.records) :])
    assert sorted(record.prompt_tokens for record in shared.records) == words


async def test_an_interrupt_ends_a_run_with_what_there_is(tmp_path: Path) -> None:
    engine = FakeEngine(tokens=2)
    file = tmp_path / "run.jsonl"
    async with serve(engine), running(store=leases_of(short=engine, long=engine)) as gateway:
        process = await start(
            "--url", gateway.url, "--rate", "50", "--duration", "300", "--processes", "2", "--out", file
        )
        # Two requests count words; these are the load's.
        while len(engine.seen) < 15:
            await asyncio.sleep(0.05)
            assert process.returncode is None
        process.send_signal(signal.SIGINT)
        code, out, errors = await finish(process)
    assert code == 1, out + errors
    assert "interrupted by SIGINT" in errors
    run = read_run(file)
    assert run.stopped == "interrupted by SIGINT"
    assert 0 < run.seconds < 300
    assert len(run.records) >= 10
    assert {one.error for one in run.records} <= {"", "client"}


async def test_too_many_errors_end_a_run(tmp_path: Path) -> None:
    engine = FakeEngine(status=400)
    async with serve(engine), running(store=leases_of(short=engine, long=engine)) as gateway:
        process = await start(
            "--url", gateway.url, "--rate", "100", "--duration", "300", "--stop-errors", "0.5", "--json", "-"
        )
        code, out, errors = await finish(process)
    assert code == 1, out + errors
    told: dict[str, Any] = json.loads(out)
    assert told["stopped"] == "100% of the requests of the last 10 s failed, over 50%"
    assert {one["error"] for one in told["errors"]} <= {"refused", "client"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--url", "http://127.0.0.1:9"], "http://127.0.0.1:9"),
        (["--set", "nonesuch=1"], "nonesuch"),
        (["--rate", "0"], "--rate 0"),
        (["--arrivals", "now"], "none of"),
        (["--trace", "x", "--rate", "1"], "--trace"),
        (["--stop-errors", "2"], "--stop-errors"),
        (["--keys-file", "/nonesuch"], "/nonesuch"),
    ],
)
async def test_mistakes_are_told_before_anything_is_sent(arguments: list[str], word: str) -> None:
    code, _, errors = await finish(await start(*arguments))
    assert code in {1, 2}
    assert word in errors
    assert "Traceback" not in errors
