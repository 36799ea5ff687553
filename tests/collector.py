"""An OpenTelemetry collector in the test's own loop: keeps the spans that any process exports to it over gRPC.

What must not live here: tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
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
