"""Reads the traces that a local cluster's gateway writes to a file: OTLP's JSON, a line a batch.

What must not live here: writing them (services/tracing/file_sink.py), showing them (cluster/cli/trace.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.core.errors import SetupError

REQUEST_ID = "longreach.request_id"
SERVER = 2
"""OTLP's number for the kind of span that a request begins with."""
ERROR = 2
LINE_BYTES_MAX = 64 << 20
"""A line is a batch of some hundred spans."""
LINES_TRIED = 3
"""If none of the first is OTLP, the file is another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSpan:
    """One span of a file."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    is_error: bool

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e9


def find_trace(path: Path, name: str) -> tuple[ReadSpan, ...]:
    """Every span of one request's trace, by begin.

    Args:
        path: the file; the one before it, `NAME.1`, is read too.
        name: the request's id, or the trace's. Of several requests with the same id, the latest counts.

    Raises:
        SetupError: there is no file, or it is none of ours.
    """
    lines = _lines(path)
    found = [span for line in lines if name.encode() in line for span in _spans(line) or ()]
    ids = [span.trace_id for span in found if name in {span.attributes.get(REQUEST_ID), span.trace_id}]
    if not ids:
        return ()
    wanted = ids[-1].encode()
    spans = {span.span_id: span for line in lines if wanted in line for span in _spans(line) or ()}
    return tuple(sorted((span for span in spans.values() if span.trace_id == ids[-1]), key=_by_begin))


def latest(path: Path, count: int) -> tuple[ReadSpan, ...]:
    """The requests' own spans of the latest so many requests, newest first.

    Raises:
        SetupError: as `find_trace`.
    """
    found: list[ReadSpan] = []
    for line in reversed(_lines(path)):
        of_requests = [span for span in _spans(line) or () if span.kind == SERVER]
        found += sorted(of_requests, key=_by_begin, reverse=True)
        if len(found) >= count:
            break
    return tuple(found[:count])


def _by_begin(span: ReadSpan) -> tuple[int, int]:
    return span.start_ns, -span.end_ns


def _lines(path: Path) -> Sequence[bytes]:
    """Of both files, oldest first."""
    before = path.with_name(f"{path.name}.1")
    if not path.exists() and not before.exists():
        raise SetupError(
            f"there are no traces at {path}",
            "set telemetry.traces.file and sampling_ratio, longreach down, longreach up, and ask again",
        )
    lines: list[bytes] = []
    for file in (before, path):
        if file.exists():
            with file.open("rb") as content:
                while line := content.readline(LINE_BYTES_MAX):
                    lines.append(line)
    if lines and all(_spans(line) is None for line in lines[:LINES_TRIED]):
        raise SetupError(f"{path} has no line of OTLP", "name another file: --file")
    return lines


def _spans(line: bytes) -> Sequence[ReadSpan] | None:
    """None: it is no OTLP, for example because it is being written, or a full disk cut it."""
    try:
        batch = json.loads(line)
        return [
            _span(span)
            for of_resource in batch["resourceSpans"]
            for of_scope in of_resource["scopeSpans"]
            for span in of_scope["spans"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _span(raw: dict[str, Any]) -> ReadSpan:
    return ReadSpan(
        name=str(raw.get("name", "")),
        kind=int(raw.get("kind", 0)),
        trace_id=str(raw["traceId"]),
        span_id=str(raw["spanId"]),
        parent_id=str(raw.get("parentSpanId", "")),
        start_ns=int(raw.get("startTimeUnixNano", 0)),
        end_ns=int(raw.get("endTimeUnixNano", 0)),
        attributes={one["key"]: _value(one["value"]) for one in raw.get("attributes", [])},
        is_error=raw.get("status", {}).get("code") == ERROR,
    )


def _value(raw: dict[str, Any]) -> Any:
    if "intValue" in raw:
        return int(raw["intValue"])
    if "arrayValue" in raw:
        return [_value(one) for one in raw["arrayValue"].get("values", [])]
    return next(iter(raw.values()), None)
