"""Spans to a file, one line of OTLP's JSON a batch: what `longreach trace` and collectors' file receivers read.

The form is https://opentelemetry.io/docs/specs/otel/protocol/file-exporter. What must not live here: reading it
(cluster/local/traces.py).
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.tracing.span import Value, encode_request

FILE_BYTES_MAX = 64 * 2**20
"""Then it is renamed to `NAME.1`, in the place of the one before: two such files are kept at most."""
_IDS = ("traceId", "spanId", "parentSpanId")


class FileSink:
    """One file; several processes may write to it, whole lines each."""

    def __init__(self, path: Path, resource: Mapping[str, Value]) -> None:
        self._path = path
        self._resource = resource

    def send(self, spans: Sequence[bytes]) -> None:
        """Append them.

        Raises:
            OSError: the file cannot be written.
        """
        message = ExportTraceServiceRequest.FromString(encode_request(spans, self._resource))
        line = orjson.dumps(_with_hex_ids(MessageToDict(message, use_integers_for_enums=True))) + b"\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.write(descriptor, line) < len(line):
                os.write(descriptor, b"\n")
                raise OSError(errno.ENOSPC, "the disk is full", str(self._path))
            if os.fstat(descriptor).st_size >= FILE_BYTES_MAX:
                self._make_room(descriptor)
        finally:
            os.close(descriptor)

    def _make_room(self, descriptor: int) -> None:
        """Rename the full file, unless another process has done so meanwhile."""
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == os.fstat(descriptor).st_ino:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))

    def close(self) -> None:
        """Nothing is held between two batches."""


def _with_hex_ids(request: dict[str, Any]) -> dict[str, Any]:
    """OTLP's one difference from Protobuf's JSON: ids are hexadecimal, not base64."""
    for of_resource in request.get("resourceSpans", []):
        for of_scope in of_resource.get("scopeSpans", []):
            for span in of_scope.get("spans", []):
                for name in _IDS:
                    if name in span:
                        span[name] = base64.b64decode(span[name]).hex()
    return request
