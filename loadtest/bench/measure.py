"""Measures one router once: what it costs, what it adds, each beside the same load straight to an engine.

What must not live here: repeating and averaging (results.py), starting anything but the router itself (gateway.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.bench.bodies import Bodies, LongPrompt
from loadtest.bench.engines import Engines
from loadtest.bench.load import LoadClient, LoadFailedError, LoadResult, finish
from loadtest.bench.machine import cpu_s, pss_mb
from loadtest.bench.routers import Serving

STREAM_TOKENS = 100
QUIET_CONNECTIONS = 4
QUIET_TOKENS = 20
QUIET_TTFT_MS = 20.0
QUIET_ITL_MS = 5.0
PACED_ITL_MS = 2.0
BESIDE_CONNECTIONS = 4
"""Paced streams beside long prompts: few, so that the engines' core is not what they wait for."""
US_PER_S = 1e6
RATE_MIN = 1e-9
"""Instead of a rate of nothing, by which nothing can be divided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how much."""

    repeats: int = 3
    connections: int = 64
    seconds: float = 3.0
    direct_ratio: float = 0.5
    """How long the direct baseline takes, against the run through the router; half of it before, half after."""
    quiet_seconds: float = 6.0
    warm_seconds: float = 1.0
    long_tokens: int = 200_000
    long_requests: int = 20
    long_rate: float = 10.0
    """Long prompts a second beside other streams: the engines' core would be full of more."""
    long_beside_seconds: float = 2.0
    memory_requests: tuple[int, int] = (20_000, 100_000)
    slow_streams: int = 1_000


QUICK = Plan(
    repeats=1,
    connections=8,
    seconds=0.4,
    direct_ratio=1.0,
    quiet_seconds=0.4,
    warm_seconds=0.2,
    long_tokens=20_000,
    long_requests=3,
    long_rate=10.0,
    long_beside_seconds=0.5,
    memory_requests=(200, 1_000),
    slow_streams=20,
)
"""For tests: every step, and no figure worth keeping."""


@dataclass(slots=True, kw_only=True)
class Sample:
    """One repeat of one router: figures by their name (results.py says what each means), and what went wrong."""

    figures: dict[str, float] = field(default_factory=dict)
    failed: int = 0
    status: dict[int, int] = field(default_factory=dict)

    def count(self, result: LoadResult) -> None:
        """Add a run's failures."""
        self.failed += result.bad
        for status, requests in result.status.items():
            self.status[status] = self.status.get(status, 0) + requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One load through a router, and the same straight to an engine just before and just after.

    Both sides of it, because a shared machine is faster in one minute than in the next.
    """

    via: LoadResult
    around: tuple[LoadResult, LoadResult]
    spent_us: float
    """The router's CPU."""

    def direct(self, of: Callable[[LoadResult], float]) -> float:
        """A figure of the direct runs: the mean of both."""
        return (of(self.around[0]) + of(self.around[1])) / 2

    def added(self, of: Callable[[LoadResult], float]) -> float:
        """What the router adds to a figure."""
        return of(self.via) - self.direct(of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Everything one repeat of one router needs."""

    plan: Plan
    load: LoadClient
    engines: Engines
    bodies: Bodies
    long_prompts: Sequence[LongPrompt]
    on_step: Callable[[str], None]
    """Told what was done, for a progress bar."""

    @property
    def steps(self) -> int:
        """How often `on_step` is called for one router."""
        return 4 + len(self.long_prompts)

    def run(self, router: Serving) -> Sample:
        """Measure a router that serves."""
        sample = Sample()
        stream = self.bodies.short(max_tokens=STREAM_TOKENS, stream=True)
        self.engines.pace()
        for body, chunks in ((stream, STREAM_TOKENS), (self.bodies.short(max_tokens=1, stream=False), 1)):
            self.load.run(router.port, body, connections=16, chunks=chunks, seconds=self.plan.warm_seconds)
        self._short(router, sample)
        self._burst(router, sample, stream)
        self._paced(router, sample, stream)
        self._quiet(router, sample)
        sample.figures["pss_before_long_mb"] = pss_mb(router.started.pid)
        for prompt in self.long_prompts:
            self._long(router, sample, prompt)
        sample.figures["pss_mb"] = pss_mb(router.started.pid)
        return sample

    def _short(self, router: Serving, sample: Sample) -> None:
        body = self.bodies.short(max_tokens=1, stream=False)
        pair = self._both(router, sample, "short", body, chunks=1)
        sample.figures["cpu_us_per_request"] = pair.spent_us / max(pair.via.good, 1)
        self.on_step("short requests")

    def _burst(self, router: Serving, sample: Sample, body: Path) -> None:
        pair = self._both(router, sample, "burst", body, chunks=STREAM_TOKENS)
        sample.figures["cpu_us_per_chunk_burst"] = pair.spent_us / max(pair.via.good * STREAM_TOKENS, 1)
        sample.figures["ratio_burst"] = sample.figures["burst.chunks_s"] / sample.figures["burst.direct_chunks_s"]
        self.on_step("burst streams")

    def _paced(self, router: Serving, sample: Sample, body: Path) -> None:
        self.engines.pace(itl_ms=PACED_ITL_MS)
        pair = self._both(router, sample, "paced", body, chunks=STREAM_TOKENS)
        sample.figures["cpu_us_per_chunk_paced"] = pair.spent_us / max(pair.via.good * STREAM_TOKENS, 1)
        self.on_step("paced streams")

    def _quiet(self, router: Serving, sample: Sample) -> None:
        self.engines.pace(ttft_ms=QUIET_TTFT_MS, itl_ms=QUIET_ITL_MS)
        body = self.bodies.short(max_tokens=QUIET_TOKENS, stream=True)
        pair = self._pair(
            router, sample, body, connections=QUIET_CONNECTIONS, chunks=QUIET_TOKENS, seconds=self.plan.quiet_seconds
        )
        sample.figures |= {
            "added_ttft_p50_ms": pair.added(lambda result: result.ttft.p50_ms),
            "added_ttft_p99_ms": pair.added(lambda result: result.ttft.p99_ms),
            "added_chunk_p50_ms": pair.added(lambda result: result.chunk.p50_ms),
            "added_chunk_p99_ms": pair.added(lambda result: result.chunk.p99_ms),
        }
        self.on_step("quiet streams")

    def _long(self, router: Serving, sample: Sample, prompt: LongPrompt) -> None:
        self.engines.pace()
        name = f"long.{prompt.kind}"
        before_s = cpu_s(router.started.pid)
        via = self.load.run(router.port, prompt.body, connections=1, chunks=1, requests=self.plan.long_requests)
        spent_s = cpu_s(router.started.pid) - before_s
        sample.count(via)
        sample.figures[f"{name}.body_mb"] = prompt.body_bytes / 1e6
        sample.figures[f"{name}.tokens"] = prompt.tokens
        sample.figures[f"{name}.cpu_ms"] = spent_s * 1000 / max(via.good, 1)
        sample.figures[f"{name}.request_p50_ms"] = via.request.p50_ms
        worst_ms = self._worst_chunk_ms(router.port, sample, prompt)
        direct_ms = self._worst_chunk_ms(self.engines.ports[0], None, prompt)
        sample.figures[f"{name}.worst_chunk_ms"] = worst_ms
        sample.figures[f"{name}.direct_worst_chunk_ms"] = direct_ms
        sample.figures[f"{name}.other_stream_delay_ms"] = max(0.0, worst_ms - direct_ms)
        self.on_step(f"long prompts, {prompt.kind}")

    def _worst_chunk_ms(self, port: int, sample: Sample | None, prompt: LongPrompt) -> float:
        """The longest way of any chunk of paced streams while long prompts pass."""
        self.engines.pace(itl_ms=PACED_ITL_MS)
        body = self.bodies.short(max_tokens=STREAM_TOKENS, stream=True)
        how = {"connections": BESIDE_CONNECTIONS, "chunks": STREAM_TOKENS}
        seconds = self.plan.long_beside_seconds
        beside = self.load.start(port, body, seconds=seconds, **how)
        try:
            passing = self.load.run(
                port, prompt.body, connections=4, chunks=1, seconds=seconds, rate=self.plan.long_rate
            )
        except LoadFailedError:
            beside.kill()
            beside.communicate()
            raise
        streams = finish(beside, seconds)
        if sample is not None:
            sample.count(passing)
            sample.count(streams)
        return streams.chunk.max_ms

    def _both(self, router: Serving, sample: Sample, name: str, body: Path, *, chunks: int) -> Pair:
        """A pair at full load, its rates noted under `name`."""
        pair = self._pair(
            router, sample, body, connections=self.plan.connections, chunks=chunks, seconds=self.plan.seconds
        )
        sample.figures |= {
            f"{name}.requests_s": pair.via.requests_s,
            f"{name}.direct_requests_s": pair.direct(lambda result: result.requests_s),
            f"{name}.chunks_s": pair.via.chunks_s,
            f"{name}.direct_chunks_s": max(pair.direct(lambda result: result.chunks_s), RATE_MIN),
            f"{name}.added_ttft_p50_ms": pair.added(lambda result: result.ttft.p50_ms),
        }
        return pair

    def _pair(
        self, router: Serving, sample: Sample, body: Path, *, connections: int, chunks: int, seconds: float
    ) -> Pair:
        """The same load through the router and, before and after it, straight to an engine."""
        how = {"connections": connections, "chunks": chunks}
        port, direct_seconds = self.engines.ports[0], seconds * self.plan.direct_ratio / 2
        before = self.load.run(port, body, seconds=direct_seconds, **how)
        before_s = cpu_s(router.started.pid)
        via = self.load.run(router.port, body, seconds=seconds, **how)
        spent_us = (cpu_s(router.started.pid) - before_s) * US_PER_S
        after = self.load.run(port, body, seconds=direct_seconds, **how)
        sample.count(via)
        return Pair(via=via, around=(before, after), spent_us=spent_us)
