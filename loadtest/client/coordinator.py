"""Starts client processes at one time, gathers their records, and ends the run.

What must not live here: sending (worker.py), drawing progress (cluster/cli), judging a result (report/).
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from math import isinf
from multiprocessing.connection import Connection, wait
from typing import Any, Self

from cluster.core.errors import LongreachError
from cluster.local.interrupt import InterruptedBySignal, counted
from loadtest.client.job import Job
from loadtest.client.limits import merged, warnings
from loadtest.client.live import Live, Snapshot
from loadtest.client.sampling import Sampler
from loadtest.client.stopping import WINDOW_S, StopRules, verdict
from loadtest.client.worker import Begin, Ended, News, Ready, Stop, work
from loadtest.record import Record, Run

START_TIMEOUT_S = 120.0
"""Of importing and of making the first sessions, on a busy machine."""
BEGIN_S = 0.5
"""From telling all processes to the run's begin; they hear it within milliseconds."""
LOOK_S = 0.25
STOP_TIMEOUT_S = 30.0
"""From `Stop` to the last records of a process."""
TOKENS_MAX = 60_000_000
"""In all records: their times take 8 bytes each, so half a gigabyte. A run that has more ends, and says so."""


class LoadTestError(LongreachError):
    """A client process could not do its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a run is apart from its job."""

    warmup_s: float = 0.0
    stop: StopRules = field(default_factory=StopRules)


def run_load(
    job: Job,
    rules: Rules,
    *,
    arguments: dict[str, Any],
    watch: Callable[[Snapshot], None],
    sampler: Sampler | None = None,
    ending: Callable[[], str] = str,
) -> Run:
    """Run a job in `job.parts` processes.

    Args:
        job: of the whole run.
        rules: warm-up, and when to stop.
        arguments: for the record of the run.
        watch: told a few times a second.
        sampler: of the server's metrics; ended with the run.
        ending: asked a few times a second; ends the run with the reason that it gives, if it gives one.

    Ctrl-C and other signals that end a process end the run with what there is; a second one at once, with nothing.

    Raises:
        InterruptedBySignal: a second signal came.
        LoadTestError: a process did not start, ended before its time or could not make its sessions.
    """
    with _Processes(job) as processes:
        processes.wait_until_ready()
        run = _Gathering(job, rules, processes, watch, sampler, ending=ending).run(arguments)
    if sampler is None:
        return run
    return replace(run, metrics=sampler.end())


class _Processes:
    """The client processes of a run."""

    def __init__(self, job: Job) -> None:
        # Not forked: this process has threads, and an event loop's leftovers are no use to a child.
        context = multiprocessing.get_context("spawn")
        self.pipes: list[Connection] = []
        self._children = []
        for part in range(job.parts):
            here, there = context.Pipe()
            child = context.Process(target=work, args=(replace(job, part=part), there), daemon=True)
            child.start()
            there.close()
            self.pipes.append(here)
            self._children.append(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.kill()
            child.join()

    def wait_until_ready(self) -> None:
        """Wait for all of them.

        Raises:
            LoadTestError: one did not start.
        """
        until_s = time.monotonic() + START_TIMEOUT_S
        for pipe in self.pipes:
            if not pipe.poll(max(until_s - time.monotonic(), 0.0)):
                raise LoadTestError(f"a client process did not start within {START_TIMEOUT_S:g} s")
            told = _heard(pipe)
            if not isinstance(told, Ready):
                raise LoadTestError(told.fault if isinstance(told, Ended) else "a client process sent nonsense")

    def tell(self, what: object) -> None:
        """Tell all that still listen."""
        for pipe in self.pipes:
            try:
                pipe.send(what)
            except OSError:  # it has ended
                continue


class _Gathering:
    """One run under way."""

    def __init__(
        self,
        job: Job,
        rules: Rules,
        processes: _Processes,
        watch: Callable[[Snapshot], None],
        sampler: Sampler | None,
        *,
        ending: Callable[[], str],
    ) -> None:
        self._job = job
        self._sampler = sampler
        self._rules = rules
        self._processes = processes
        self._watch = watch
        self._ending = ending
        self._records: list[Record] = []
        self._tokens = 0
        self._live = Live(job.parts)
        self._parts: list[dict[str, float]] = []
        self._open = dict(enumerate(processes.pipes))
        self._stopped = ""
        self._stop_s = 0.0
        self._begin_s = 0.0

    def run(self, arguments: dict[str, Any]) -> Run:
        """Begin, and look on until all processes have ended."""
        begun = datetime.now(UTC)
        self._begin_s = time.monotonic() + BEGIN_S
        self._processes.tell(Begin(self._begin_s))
        if self._sampler is not None:
            self._sampler.start(self._begin_s)
        with counted() as interrupts:
            while self._open:
                self._look()
                if interrupts and not self._stopped:
                    self._stop(f"interrupted by {interrupts[0].name}")
                elif len(interrupts) > 1:
                    raise InterruptedBySignal(interrupts[-1])
        records = sorted(self._records, key=lambda one: (one.due_s, one.session, one.turn))
        client = merged(self._parts)
        job = self._job
        return Run(
            scenario=job.scenario,
            arguments=arguments,
            api="grpc" if job.aim.is_grpc else "rest",
            begun=begun.isoformat(timespec="seconds"),
            seconds=self._seconds(records),
            warmup_s=self._rules.warmup_s,
            records=records,
            client=client,
            stopped=self._stopped,
            warnings=warnings(client, records),
        )

    def _look(self) -> None:
        for pipe in wait([*self._open.values()], LOOK_S):
            assert isinstance(pipe, Connection)
            self._hear(next(number for number, one in self._open.items() if one is pipe), _heard(pipe))
        now_s = time.monotonic() - self._begin_s
        if self._stopped:
            if now_s > self._stop_s + STOP_TIMEOUT_S:
                raise LoadTestError(f"a client process did not stop within {STOP_TIMEOUT_S:g} s")
            return
        recent = [one for one in self._live.recent.until(now_s) if one.due_s >= self._rules.warmup_s]
        if why := verdict(self._rules.stop, recent) or self._ending():
            self._stop(why)
        elif self._tokens > TOKENS_MAX:
            self._stop(f"over {TOKENS_MAX:,} tokens have come, and their times fill this machine's memory")
        self._watch(self._live.snapshot(now_s, WINDOW_S))

    def _hear(self, number: int, told: object) -> None:
        if isinstance(told, News):
            self._records += told.records
            self._tokens += sum(len(one.gaps_s) for one in told.records)
            self._live.hear(number, told.counts, told.records)
            return
        assert isinstance(told, Ended)
        if told.fault:
            raise LoadTestError(told.fault)
        self._parts.append(told.client)
        del self._open[number]

    def _stop(self, why: str) -> None:
        self._stopped, self._stop_s = why, time.monotonic() - self._begin_s
        self._processes.tell(Stop())

    def _seconds(self, records: Sequence[Record]) -> float:
        planned_s = self._job.pace.duration_s
        if self._stopped:
            return max(min(planned_s, self._stop_s), 0.0)
        if isinf(planned_s) or self._job.sessions_max is not None:
            last_s = max((record.ended_s for record in records), default=0.0)
            return min(planned_s, last_s)
        return planned_s


def _heard(pipe: Connection) -> object:
    try:
        return pipe.recv()
    except (EOFError, OSError):
        return Ended({}, "a client process ended unexpectedly: its reason is above")


def arguments_of(job: Job, rules: Rules) -> dict[str, Any]:
    """Everything it takes to run it again, without secrets, as JSON can hold it."""
    told: dict[str, Any] = {
        "scenario": job.scenario,
        "settings": list(job.settings),
        "seed": job.seed,
        "salt": job.salt,
        "url": job.aim.url,
        "model": job.aim.model,
        "stream": job.aim.streams,
        "timeout_s": job.aim.timeout_s,
        "tenants": sorted(job.aim.keys),
        "priority": job.aim.priority,
        "temperature": job.aim.temperature,
        "context_tokens": job.context_tokens,
        "tokenizer": str(job.tokenizer) if job.tokenizer else None,
        "sessions": job.sessions_max,
        "processes": job.parts,
        "duration_s": None if isinf(job.pace.duration_s) else job.pace.duration_s,
        "concurrency": job.pace.concurrency,
        "in_flight_max": job.pace.in_flight_max,
        "drain_s": job.pace.drain_s,
        "spacing": str(job.times.spacing),
        "course": None if job.times.course is None else _course(job.times.course),
        "trace": str(job.times.trace) if job.times.trace else None,
        "speed": job.times.speed,
        "warmup_s": rules.warmup_s,
        "stop_errors": rules.stop.errors_ratio,
        "stop_ttft_s": rules.stop.ttft_s,
    }
    return told


def _course(course: Any) -> dict[str, Any]:
    return {"kind": type(course).__name__.lower(), **asdict(course)}
