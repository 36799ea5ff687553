"""Traces are found again in the file that a gateway wrote, and shown as a tree."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cluster.cli.app import app
from cluster.cli.trace import as_tree
from cluster.core.errors import SetupError
from cluster.local.traces import find_trace, latest
from services.tracing.file_sink import FileSink
from services.tracing.span import Kind, Span, encode_span

MS = 1_000_000


def spans(number: int, request_id: str) -> list[Span]:
    """A request with an attempt and a prefill."""
    begin_ns, trace_id = number * 1000 * MS, number
    about = {"longreach.request_id": request_id, "longreach.pool": "short", "gen_ai.usage.output_tokens": 1234}
    return [
        Span("chat demo", Kind.SERVER, trace_id, 1, 99, begin_ns, begin_ns + 200 * MS, about),
        Span(
            "attempt", Kind.CLIENT, trace_id, 2, 1, begin_ns + 2 * MS, begin_ns + 200 * MS, {"error.type": "reset"}, "x"
        ),
        Span("engine.prefill", Kind.INTERNAL, trace_id, 3, 2, begin_ns + 50 * MS, begin_ns + 100 * MS, {}),
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "traces.jsonl"
    sink = FileSink(path, {})
    for number, name in enumerate(("a", "b", "b"), 1):
        sink.send([encode_span(span) for span in spans(number, name)[:2]])
        sink.send([encode_span(spans(number, name)[2])])
    return path


def test_a_request_is_found_with_all_its_spans(file: Path) -> None:
    found = find_trace(file, "a")
    assert [span.name for span in found] == ["chat demo", "attempt", "engine.prefill"]
    assert found[0].attributes["gen_ai.usage.output_tokens"] == 1234
    assert (found[1].is_error, found[0].is_error) == (True, False)
    assert found[0].seconds == pytest.approx(0.2)
    assert find_trace(file, f"{1:032x}") == found


def test_of_requests_with_one_id_the_latest_counts(file: Path) -> None:
    assert {span.trace_id for span in find_trace(file, "b")} == {f"{3:032x}"}
    assert find_trace(file, "c") == ()


def test_the_latest_come_first(file: Path) -> None:
    assert [span.attributes["longreach.request_id"] for span in latest(file, 2)] == ["b", "b"]
    assert len(latest(file, 99)) == 3


def test_the_file_before_is_read_too_and_a_line_being_written_is_not(file: Path) -> None:
    file.rename(file.with_name("traces.jsonl.1"))
    file.write_bytes(b'{"resourceSpans": [{"a')
    assert len(find_trace(file, "a")) == 3
    file.write_bytes(b'{"resourceSpans": "a"}\n')
    assert len(find_trace(file, "a")) == 3
    file.with_name("traces.jsonl.1").unlink()
    with pytest.raises(SetupError, match="no line of OTLP"):
        find_trace(file, "a")


def test_a_tree_shows_who_belongs_to_whom(file: Path) -> None:
    out = io.StringIO()
    Console(file=out, width=140).print(as_tree(find_trace(file, "a")))
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["chat", "└─", "└─"]
    assert "200.0" in lines[2]
    assert "1,234 out" in lines[2]
    assert lines[4].startswith("    └─ engine.prefill")
    assert lines[4].index("█") > lines[3].index("█")


def test_a_name_that_a_client_chose_is_text(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    named = Span("chat [/x]", Kind.SERVER, 1, 1, None, 0, MS, {"longreach.request_id": "[red]r"})
    FileSink(path, {}).send([encode_span(named)])
    for arguments in (["trace", "--file", str(path)], ["trace", "[red]r", "--file", str(path)]):
        shown = CliRunner().invoke(app, arguments)
        assert (shown.exit_code, "chat [/x]" in shown.output) == (0, True)


def test_the_command_says_what_is_missing(file: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["trace", "a", "--file", str(file)])
    assert (shown.exit_code, "attempt" in shown.output) == (0, True)
    unknown = runner.invoke(app, ["trace", "z", "--file", str(file)])
    assert (unknown.exit_code, "sampling_ratio" in unknown.output) == (1, True)
    nowhere = runner.invoke(app, ["trace", "a", "--file", str(tmp_path / "none")])
    assert (nowhere.exit_code, "telemetry.traces.file" in nowhere.output) == (1, True)
    listed = runner.invoke(app, ["trace", "--file", str(file), "--json"])
    assert listed.output.count("longreach.request_id") == 3
