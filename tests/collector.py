"""OpenTelemetry collectors in the test's own loop: one keeps spans sent over gRPC, one the bodies sent over HTTP.

What must not live here: tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.spans import Seen, seen_in


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes everything."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []

    async def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802 - gRPC's name
        self.spans += seen_in(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, trace_id: str) -> list[Seen]:
        """Those of one trace."""
        return [span for span in self.spans if span.trace_id == trace_id]


@asynccontextmanager
async def collecting(port: int = 0) -> AsyncIterator[tuple[Collector, int]]:
    """Listen on a port of this machine, a free one by default."""
    collector, server = Collector(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield collector, bound
    finally:
        await server.stop(0)


@asynccontextmanager
async def collecting_http(path: str) -> AsyncIterator[tuple[list[bytes], str]]:
    """What is posted to this path, and the address without it."""
    bodies: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        bodies.append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post(path, take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield bodies, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
