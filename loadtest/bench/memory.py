"""Measures how a router's memory grows: with requests, and while streams are open whose clients hardly read.

What must not live here: speed (measure.py).
"""

from __future__ import annotations

import select
import subprocess
from dataclasses import dataclass

from loadtest.bench.bodies import Bodies
from loadtest.bench.engines import Engines
from loadtest.bench.load import LoadClient, LoadFailedError
from loadtest.bench.machine import pss_mb
from loadtest.bench.measure import Plan, Sample
from loadtest.bench.routers import Serving

SLOW_CHUNKS = 20_000
"""4 MB of answer: more than all buffers on the way hold, so back-pressure reaches the engine."""
SLOW_BYTES = 1_024
"""What a slow client reads ten times a second."""
SLOW_OPEN_S = 60.0
SLOW_SECONDS = 3_600.0
"""The readers are ended by us; this bounds them should we be killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMeasurement:
    """How a router's memory grows with requests, and with slow streams open."""

    plan: Plan
    load: LoadClient
    engines: Engines
    bodies: Bodies

    def run(self, router: Serving, *, slow: bool) -> Sample:
        """PSS after the plan's two numbers of requests; with `slow`, beside streams whose clients hardly read."""
        sample = Sample()
        name = "memory_slow" if slow else "memory"
        self.engines.pace()
        readers = self._open_slow(router) if slow else None
        try:
            first, last = self.plan.memory_requests
            for requests, key in ((first, "first_pss_mb"), (last - first, "last_pss_mb")):
                body = self.bodies.short(max_tokens=1, stream=False)
                result = self.load.run(
                    router.port, body, connections=self.plan.connections, chunks=1, requests=requests
                )
                sample.count(result)
                sample.figures[f"{name}.{key}"] = pss_mb(router.started.pid)
        finally:
            if readers is not None:
                readers.kill()
                readers.communicate()
        before_mb, after_mb = sample.figures[f"{name}.first_pss_mb"], sample.figures[f"{name}.last_pss_mb"]
        sample.figures[f"{name}.growth_ratio"] = after_mb / before_mb - 1
        return sample

    def _open_slow(self, router: Serving) -> subprocess.Popen[str]:
        body = self.bodies.short(max_tokens=SLOW_CHUNKS, stream=True)
        readers = self.load.start(
            router.port, body, connections=self.plan.slow_streams, chunks=1, seconds=SLOW_SECONDS, slow_bytes=SLOW_BYTES
        )
        assert readers.stdout is not None
        is_told, _, _ = select.select([readers.stdout], [], [], SLOW_OPEN_S)
        if is_told and readers.stdout.readline().strip() == "open":
            return readers
        readers.kill()
        _, errors = readers.communicate()
        raise LoadFailedError(f"{self.plan.slow_streams} slow streams could not be opened. {errors.strip()}")
