"""Spans in a file: OTLP's JSON, a line a batch, two files at most."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.tracing import file_sink
from services.tracing.file_sink import FileSink
from services.tracing.span import Kind, Span, encode_span

SPAN = Span("chat demo", Kind.SERVER, 0xABC, 0xDEF, 0x123, 5, 9, {"n": 3, "t": "é", "ok": True}, "late")


def test_a_line_is_what_the_specification_says(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "traces.jsonl"
    sink = FileSink(path, {"service.name": "gateway"})
    sink.send([encode_span(SPAN)])
    sink.send([encode_span(SPAN._replace(parent_id=None, error=None))])
    first, second = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    (span,) = first["resourceSpans"][0]["scopeSpans"][0]["spans"]
    ids = f"{0xABC:032x}", f"{0xDEF:016x}", f"{0x123:016x}"
    assert (span["traceId"], span["spanId"], span["parentSpanId"]) == ids
    assert (span["kind"], span["startTimeUnixNano"], span["endTimeUnixNano"]) == (2, "5", "9")
    assert {"key": "n", "value": {"intValue": "3"}} in span["attributes"]
    assert span["status"] == {"message": "late", "code": 2}
    assert "parentSpanId" not in second["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert path.stat().st_mode & 0o077 == 0


def test_a_full_file_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_sink, "FILE_BYTES_MAX", 1_000)
    sink = FileSink(tmp_path / "traces.jsonl", {})
    for _ in range(30):
        sink.send([encode_span(SPAN)])
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files in (["traces.jsonl", "traces.jsonl.1"], ["traces.jsonl.1"])
    assert all(path.stat().st_size < 2_000 for path in tmp_path.iterdir())
    for path in tmp_path.iterdir():
        assert all(json.loads(line) for line in path.read_text().splitlines())


def test_two_processes_that_see_it_full_rename_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process renames the file between this one's last write and its own rename."""
    monkeypatch.setattr(file_sink, "FILE_BYTES_MAX", 2_000)
    path, sink = tmp_path / "traces.jsonl", FileSink(tmp_path / "traces.jsonl", {})
    path.write_bytes(b"{}\n" * 700)

    def flock(_descriptor: int, _operation: int) -> None:
        path.replace(path.with_name("traces.jsonl.1"))
        path.write_bytes(b"{}\n")

    monkeypatch.setattr(file_sink.fcntl, "flock", flock)
    sink.send([encode_span(SPAN)])
    assert path.read_bytes() == b"{}\n"
    assert path.with_name("traces.jsonl.1").stat().st_size > 2_000


def test_a_folder_that_cannot_be_is_an_error_of_the_sinks(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        FileSink(tmp_path / "file" / "traces.jsonl", {}).send([encode_span(SPAN)])
