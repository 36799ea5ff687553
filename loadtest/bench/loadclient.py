"""What the load client itself can do: chunks a second on one core, and how exactly it times them.

The native fake engine writes into each chunk when it sent it; the client says when it read it. A bare timer loop on the
client's core, before and after, says how exact anything on this machine is at that time. What must not live here:
the client (loadtest/client), drawing.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from cluster.core.errors import LongreachError
from loadtest.arrivals import Steady, arrivals
from loadtest.bench.bodies import MODEL
from loadtest.bench.engines import Engines, running_engines
from loadtest.bench.machine import Cores, busy_s, cpu_s, pinned
from loadtest.client.aim import Aim
from loadtest.client.answer import Answer
from loadtest.client.health import quantile
from loadtest.client.rest import RestTransport
from loadtest.client.runner import Pace, Runner
from loadtest.plan import Session, Turn

TARGET_PER_S = 20_000
"""Chunks a second on one core."""
TARGET_ERROR_S = 0.001
"""How much more than a bare timer's the timing error at p99 may be, at half that rate."""
OVER_RATIO = 1.1
"""More is sent than the target says: streams begin by chance, and the figure is what really came."""
STAMP = re.compile(r"@(\d+)@")
STAMPS_PER_S = 1e9
TIMER_S = 0.001
"""Between two wakes of the bare loop."""
OVERTIME_S = 60.0
P50, P99 = 0.5, 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured."""

    repeats: int = 3
    seconds: float = 8.0
    """Of sending, each time."""
    warmup_s: float = 3.0
    """Of these, left out: connections open, and streams become as many as they stay."""
    timer_s: float = 2.0
    """Of the bare loop, before and after."""
    tokens: int = 200
    """Of one answer."""
    itl_s: float = 0.010


QUICK = Plan(repeats=1, seconds=1.0, warmup_s=0.3, timer_s=0.3, tokens=20)
"""To see that it works; its figures mean nothing."""


class LoadClientBenchError(LongreachError):
    """The client process could not do its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One measurement of the client."""

    chunks_per_s: float
    """Read after warm-up, a second of the clock."""
    cpu_ratio: float
    """Of a core, meanwhile."""
    error_p50_s: float
    """From the engine's stamp to the client's reading."""
    error_p99_s: float
    failed: int
    others_ratio: float = 0.0
    """Of the client's core and the engine's, what others used meanwhile: other programs, and the kernel for them."""

    @property
    def chunks_per_cpu_s(self) -> float:
        """What a whole core would read at this cost a chunk."""
        return self.chunks_per_s / self.cpu_ratio if self.cpu_ratio else 0.0


def measure(
    program: Path, cores: Cores, plan: Plan, *, progress: Callable[[str, int, int], None] = lambda *_: None
) -> dict[str, Any]:
    """All figures, as JSON holds them.

    Args:
        program: the fake engine.
        cores: engines on one, the client on the other.
        plan: how much.
        progress: told what is measured, how many steps are done, and of how many.

    Raises:
        SetupError: the engine does not start.
        LoadClientBenchError: the client process failed.
    """
    steps = plan.repeats * 3
    repeats: list[dict[str, Any]] = []
    with running_engines(program, core=cores.load) as engines:
        for number in range(plan.repeats):
            done = number * 3
            progress(f"{TARGET_PER_S:,} chunks a second", done, steps)
            full = _paced(engines, cores, plan, TARGET_PER_S)
            progress(f"{TARGET_PER_S // 2:,} chunks a second", done + 1, steps)
            before_s = bare_timer_s(cores.router, plan.timer_s)
            half = _paced(engines, cores, plan, TARGET_PER_S / 2)
            after_s = bare_timer_s(cores.router, plan.timer_s)
            progress("as fast as it goes", done + 2, steps)
            burst = _burst(engines, cores, plan)
            repeats.append({
                "chunks_per_s": full.chunks_per_s,
                "cpu_ratio": full.cpu_ratio,
                "chunks_per_cpu_s": full.chunks_per_cpu_s,
                "full_error_p50_ms": full.error_p50_s * 1e3,
                "full_error_p99_ms": full.error_p99_s * 1e3,
                "half_chunks_per_s": half.chunks_per_s,
                "half_cpu_ratio": half.cpu_ratio,
                "half_error_p50_ms": half.error_p50_s * 1e3,
                "half_error_p99_ms": half.error_p99_s * 1e3,
                "timer_error_p99_ms": max(before_s, after_s) * 1e3,
                "error_over_timer_ms": (half.error_p99_s - max(before_s, after_s)) * 1e3,
                "burst_chunks_per_s": burst.chunks_per_s,
                "burst_chunks_per_cpu_s": burst.chunks_per_cpu_s,
                "others_ratio": max(full.others_ratio, half.others_ratio),
                "failed": full.failed + half.failed + burst.failed,
            })  # fmt: skip
        progress("done", steps, steps)
    return report(repeats, cores)


def report(repeats: Sequence[dict[str, Any]], cores: Cores) -> dict[str, Any]:
    """Medians with their spread, and whether the targets are met."""
    rows = {}
    for name in repeats[0]:
        values = [repeat[name] for repeat in repeats]
        rows[name] = {"median": median(values), "smallest": min(values), "largest": max(values)}
    return {
        "targets": {
            "chunks_per_s": TARGET_PER_S,
            "chunks_met": rows["chunks_per_s"]["median"] >= TARGET_PER_S,
            "error_over_timer_ms": TARGET_ERROR_S * 1e3,
            "error_met": rows["error_over_timer_ms"]["median"] <= TARGET_ERROR_S * 1e3,
        },
        "figures": rows,
        "repeats": list(repeats),
        "shares_a_core": cores.is_shared,
    }


def bare_timer_s(core: int, seconds: float) -> float:
    """How late a loop that only sleeps wakes on this core, at p99: the noise of the machine at this time."""
    late = array("d")
    with pinned(core):
        due_s = time.monotonic()
        for _ in range(int(seconds / TIMER_S)):
            due_s = max(due_s + TIMER_S, time.monotonic())
            time.sleep(max(due_s - time.monotonic(), 0.0))
            late.append(time.monotonic() - due_s)
    return quantile(late, P99)


def _paced(engines: Engines, cores: Cores, plan: Plan, per_s: float) -> Timing:
    """Streams that begin by chance and have a chunk each `itl_s`, so many a second of all together."""
    engines.pace(ttft_ms=plan.itl_s * 1e3, itl_ms=plan.itl_s * 1e3)
    due_s = arrivals(Steady(rate_per_s=per_s * OVER_RATIO / plan.tokens), seed=1)
    return _run(engines, cores, plan, _Load(due_s=_until(due_s, plan.seconds), concurrency=0))


def _burst(engines: Engines, cores: Cores, plan: Plan) -> Timing:
    """Streams that come as fast as the client reads, sixteen at once."""
    engines.pace()
    return _run(engines, cores, plan, _Load(due_s=(), concurrency=16))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """What the client process is told."""

    due_s: Sequence[float]
    concurrency: int


def _until(due_s: Iterator[float], seconds: float) -> tuple[float, ...]:
    found = []
    for at_s in due_s:
        if at_s >= seconds:
            break
        found.append(at_s)
    return tuple(found)


def _run(engines: Engines, cores: Cores, plan: Plan, load: _Load) -> Timing:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    both = (cores.load, cores.router)
    before = _Used.now(both, engines.pids)
    with pinned(cores.router):
        child = context.Process(target=_client, args=(engines.urls[0], plan, load, there), daemon=True)
        child.start()
    there.close()
    try:
        if not here.poll(plan.seconds + OVERTIME_S):
            raise LoadClientBenchError(f"the client did not end within {plan.seconds + OVERTIME_S:g} s")
        found, client_s = here.recv()
        after = _Used.now(both, engines.pids, client_s=client_s)
    except EOFError as error:
        raise LoadClientBenchError("the client process failed: its reason is above") from error
    else:
        assert isinstance(found, Timing)
        return replace(found, others_ratio=after.others_since(before))
    finally:
        child.kill()
        child.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Used:
    """Processor time so far."""

    at_s: float
    busy_s: float
    """Of the cores, anybody's."""
    own_s: float
    """Of engines and client."""
    cores: int

    @classmethod
    def now(cls, cores: Sequence[int], pids: Sequence[int], *, client_s: float = 0.0) -> _Used:
        return cls(
            at_s=time.monotonic(),
            busy_s=sum(map(busy_s, cores)),
            own_s=sum(map(cpu_s, pids)) + client_s,
            cores=len(cores),
        )

    def others_since(self, before: _Used) -> float:
        """The share of the cores that others had."""
        others_s = (self.busy_s - before.busy_s) - (self.own_s - before.own_s)
        return max(others_s, 0.0) / (self.cores * (self.at_s - before.at_s))


def _client(url: str, plan: Plan, load: _Load, pipe: Connection) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        pipe.send((runner.run(_measure(url, plan, load)), time.process_time()))


async def _measure(url: str, plan: Plan, load: _Load) -> Timing:
    aim = Aim(url=url, model=MODEL, timeout_s=plan.seconds + OVERTIME_S)
    transport = RestTransport(aim)
    answers: list[Answer] = []
    pace = Pace(duration_s=plan.seconds, concurrency=load.concurrency)
    runner = Runner(transport, aim=aim, pace=pace, name="bench", keep=lambda _: None, seen=answers.append)
    begin_s = time.monotonic() + 0.1
    from_s, until_s = begin_s + plan.warmup_s, begin_s + plan.seconds
    cpu = asyncio.create_task(_cpu_s(from_s, until_s))
    await runner.run(_sessions(plan, load), begin_s)
    cpu_s = await cpu
    await transport.close()
    errors, failed = array("d"), 0
    for answer in answers:
        stamps = STAMP.findall(answer.said())
        failed += bool(answer.error) or len(stamps) != len(answer.event_times) or len(stamps) != plan.tokens
        errors.extend(
            at_s - int(stamp) / STAMPS_PER_S
            for at_s, stamp in zip(answer.event_times, stamps, strict=False)
            if from_s <= at_s < until_s
        )
    return Timing(
        chunks_per_s=len(errors) / (until_s - from_s),
        cpu_ratio=cpu_s / (until_s - from_s),
        error_p50_s=quantile(errors, P50),
        error_p99_s=quantile(errors, P99),
        failed=failed,
    )


async def _cpu_s(from_s: float, until_s: float) -> float:
    """CPU of this process between two times."""
    await asyncio.sleep(from_s - time.monotonic())
    before_s = time.process_time()
    await asyncio.sleep(until_s - time.monotonic())
    return time.process_time() - before_s


def _sessions(plan: Plan, load: _Load) -> Iterator[tuple[int, Session]]:
    turns = (Turn(text="Say hi.", output_tokens=plan.tokens),)
    if load.concurrency:
        number = 0
        while True:
            yield number, Session(at_s=0.0, turns=turns)
            number += 1
    for number, at_s in enumerate(load.due_s):
        yield number, Session(at_s=at_s, turns=turns)
