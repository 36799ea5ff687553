"""One client process: an event loop that sends its part of a run, and tells the coordinator what came back.

What must not live here: what several processes make together (coordinator.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import uvloop

from cluster.core.errors import LongreachError
from loadtest.client.aim import Aim, Transport
from loadtest.client.health import Health
from loadtest.client.job import Job, pace_of, sessions_of
from loadtest.client.rest import RestTransport
from loadtest.client.rpc import GrpcTransport
from loadtest.client.runner import Counts, Runner
from loadtest.record import Record

TELL_S = 0.25
"""How often the coordinator is told: often enough to look alive, seldom enough to cost nothing."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The process is there, and waits for its begin."""


@dataclass(frozen=True, slots=True)
class Begin:
    """To the process: when the run's time is 0, on `time.monotonic()`, which processes of a machine share."""

    at_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """To the process: begin nothing more, and cut off what is under way."""


@dataclass(frozen=True, slots=True)
class News:
    """What happened since the last time."""

    records: Sequence[Record]
    counts: Counts


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing follows."""

    client: dict[str, float]
    fault: str = ""
    """Why it did not come to its end; empty: it did."""


def work(job: Job, pipe: Connection) -> None:
    """The process's main function."""
    # Ctrl-C reaches the whole group; when to stop is the coordinator's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ValueError, OSError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            ended = runner.run(_run(job, pipe))
    except LongreachError as error:
        ended = Ended({}, str(error))
    with contextlib.suppress(OSError):
        pipe.send(ended)


async def _run(job: Job, pipe: Connection) -> Ended:
    return await _Worker(job, pipe).run()


class _Worker:
    """Runs one job, and talks to the coordinator meanwhile."""

    def __init__(self, job: Job, pipe: Connection) -> None:
        self._job = job
        self._pipe = pipe
        self._records: list[Record] = []
        self._begun: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._telling = threading.Lock()
        self._runner: Runner | None = None

    async def run(self) -> Ended:
        """The run's part of this process."""
        job = self._job
        transport = open_transport(job.aim)
        runner = self._runner = Runner(
            transport, aim=job.aim, pace=pace_of(job), name=job.name, keep=self._records.append
        )
        sessions = sessions_of(job)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._pipe.fileno(), self._hear)
        self._pipe.send(Ready())
        begin_s = await self._begun
        # What was imported and made so far stays: the collector need not look at it again under load.
        gc.freeze()
        health = Health()
        telling = asyncio.create_task(self._tell_on(runner))
        try:
            await runner.run(sessions, begin_s)
        finally:
            client = await health.end(runner.late_s)
            telling.cancel()
            await asyncio.wait({telling})
            await asyncio.to_thread(self._tell, runner)
            loop.remove_reader(self._pipe.fileno())
            await transport.close()
        return Ended(client)

    def _hear(self) -> None:
        assert self._runner is not None
        try:
            told = self._pipe.recv()
        except (EOFError, OSError):
            # The coordinator is gone, and nobody wants the rest.
            told = Stop()
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        if isinstance(told, Begin):
            self._begun.set_result(told.at_s)
            return
        self._runner.stop()
        if not self._begun.done():
            self._begun.set_result(0.0)

    async def _tell_on(self, runner: Runner) -> None:
        while True:
            await asyncio.sleep(TELL_S)
            # In a thread: a coordinator that is busy must not hold up the loop.
            await asyncio.shield(asyncio.to_thread(self._tell, runner))

    def _tell(self, runner: Runner) -> None:
        with self._telling, contextlib.suppress(OSError):
            records = self._records[:]
            del self._records[: len(records)]
            counts = runner.counts
            self._pipe.send(News(records, Counts(counts.sent, counts.in_flight, counts.done, counts.failed)))


def open_transport(aim: Aim) -> Transport:
    """The API that the run goes over; needs the running loop.

    Raises:
        SetupError: a file of TLS cannot be read.
    """
    return GrpcTransport(aim) if aim.is_grpc else RestTransport(aim)
