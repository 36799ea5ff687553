"""Runs the load clients and reads what they measured.

What must not live here: what to send (bodies.py), what it means (measure.py).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.core.errors import LongreachError
from loadtest.bench.machine import pinned

OVERTIME_S = 30.0
"""The client itself cuts answers 5 s after its time; more means that it hangs."""
REQUESTS_TIMEOUT_S = 900.0
"""For runs of a number of requests: 100,000 at 9 ms each."""


class LoadFailedError(LongreachError):
    """The load client could not do its work, for example because nothing listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long something took, over all requests of a run."""

    p50_ms: float
    p99_ms: float
    max_ms: float


NONE_MEASURED = Latency(p50_ms=float("nan"), p99_ms=float("nan"), max_ms=float("nan"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """One run of the load client."""

    good: int
    bad: int
    """Answers with another status, cut, or with too few chunks."""
    chunks: int
    """Pieces of text that arrived, of good answers and bad ones."""
    messages: int
    """Of gRPC, in which these came; 0 over HTTP/1.1."""
    requests_s: float
    chunks_s: float
    ttft: Latency
    """From the request's due time to its first chunk of text."""
    chunk: Latency
    """From the engine's sending to the client's reading, each chunk."""
    request: Latency
    status: Mapping[int, int] = field(default_factory=dict)


def parse_result(text: str) -> LoadResult:
    """Read the client's line of JSON.

    Raises:
        LoadFailedError: it is not one.
    """
    try:
        data = json.loads(text)
        return LoadResult(
            good=data["good"],
            bad=data["bad"],
            chunks=data["chunks"],
            messages=data["messages"],
            requests_s=data["requests_s"],
            chunks_s=data["chunks_s"],
            ttft=_latency(data["ttft_us"]),
            chunk=_latency(data["chunk_us"]),
            request=_latency(data["request_us"]),
            status={int(status): count for status, count in data["status"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadFailedError(f"the load client printed no result: {text[:200]!r}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadClient:
    """The compiled client, the core it runs on and the API key it sends."""

    program: Path
    core: int
    api_key: str

    def run(
        self,
        port: int,
        body: Path,
        *,
        connections: int,
        chunks: int,
        seconds: float = 0.0,
        requests: int = 0,
        rate: float = 0.0,
    ) -> LoadResult:
        """Send load to a port of this machine and wait until it is over.

        Args:
            port: where the server listens on loopback.
            body: file with the request's body.
            connections: requests under way at once.
            chunks: an answer with fewer is bad.
            seconds: how long to start requests.
            requests: stop after this many instead; 0: by time.
            rate: requests a second, started when due; 0: the next one when the last answer is complete.

        Raises:
            LoadFailedError: the client could not do it.
        """
        bound_s = seconds or REQUESTS_TIMEOUT_S
        process = self.start(
            port, body, connections=connections, chunks=chunks, seconds=bound_s, requests=requests, rate=rate
        )
        return finish(process, bound_s)

    def start(
        self,
        port: int,
        body: Path,
        *,
        connections: int,
        chunks: int,
        seconds: float,
        requests: int = 0,
        rate: float = 0.0,
        slow_bytes: int = 0,
    ) -> subprocess.Popen[str]:
        """As `run`, in the background; with `slow_bytes`, connections that read this little ten times a second."""
        options: dict[str, Any] = {
            "--port": port,
            "--body": body,
            "--header": f"authorization: Bearer {self.api_key}",
            "--connections": connections,
            "--seconds": seconds,
            "--chunks": chunks,
            "--requests": requests,
            "--rate": rate,
            "--slow-bytes": slow_bytes,
        }
        return _started(self.program, options, self.core)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcCall:
    """One call of a method that streams its answer."""

    path: str
    """`/package.Service/Method`."""
    message: Path
    """File with the serialized request."""
    chunks: int
    """An answer with fewer is bad."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcLoadClient:
    """The compiled client for gRPC streams, the core it runs on and the API key it sends."""

    program: Path
    core: int
    api_key: str

    def run(
        self, port: int, call: GrpcCall, *, connections: int, streams: int, seconds: float, spread_s: float = 0.0
    ) -> LoadResult:
        """Send calls to a port of this machine, each followed by another, and wait until they are over.

        Args:
            port: where the server listens on loopback, in clear text.
            call: what to ask.
            connections: to open.
            streams: calls under way at once on each.
            seconds: how long to begin calls.
            spread_s: the first ones begin one after the other within this.

        Raises:
            LoadFailedError: the client could not do it.
        """
        options: dict[str, Any] = {
            "--port": port,
            "--path": call.path,
            "--body": call.message,
            "--header": f"authorization: Bearer {self.api_key}",
            "--connections": connections,
            "--streams": streams,
            "--seconds": seconds,
            "--chunks": call.chunks,
            "--spread-ms": round(spread_s * 1000),
        }
        return finish(_started(self.program, options, self.core), seconds)


def finish(process: subprocess.Popen[str], seconds: float) -> LoadResult:
    """The result of a client that was started.

    Raises:
        LoadFailedError: it could not do its work, or hangs.
    """
    try:
        out, errors = process.communicate(timeout=seconds + OVERTIME_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise LoadFailedError(f"the load client did not end within {seconds + OVERTIME_S:.0f} s") from error
    if process.returncode != 0:
        raise LoadFailedError(f"the load client failed: {errors.strip()}")
    return parse_result(out)


def _started(program: Path, options: Mapping[str, Any], core: int) -> subprocess.Popen[str]:
    argv = [str(program), *(str(part) for option in options.items() for part in option)]
    with pinned(core):
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _latency(data: Mapping[str, float] | None) -> Latency:
    if data is None:
        return NONE_MEASURED
    return Latency(p50_ms=data["p50"] / 1000, p99_ms=data["p99"] / 1000, max_ms=data["max"] / 1000)
