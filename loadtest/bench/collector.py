"""A trace collector that takes everything and keeps nothing, or that takes its time.

What must not live here: what is sent to it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
NOBODY = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""
THREADS = 4


@contextmanager
def collecting(*, answers: bool) -> Iterator[str]:
    """Listen on a free port of this machine; its address.

    Args:
        answers: or else every export waits until the end.
    """
    end = threading.Event()

    def take(_request: bytes, _context: object) -> bytes:
        if not answers:
            end.wait()
        return b""

    server = grpc.server(ThreadPoolExecutor(THREADS))
    handlers = {"Export": grpc.unary_unary_rpc_method_handler(take)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        end.set()
        server.stop(0).wait()
