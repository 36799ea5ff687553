"""Reading traces: made-up files with and without mistakes, and the public ones where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cluster.core.errors import SetupError, TraceError
from cluster.simulator.traces import read_trace
from tests.traces import public_trace

GOOD = {"timestamp": 3000, "input_length": 513, "output_length": 7, "hash_ids": [0, 9]}
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def mooncake(folder: Path, *rows: Any) -> Path:
    path = folder / "made.jsonl"
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def azure(folder: Path, text: str) -> Path:
    path = folder / "made.csv"
    path.write_text(text)
    return path


def test_mooncake_requests_begin_at_zero_and_come_in_order(tmp_path: Path) -> None:
    trace = read_trace(mooncake(tmp_path, GOOD, GOOD | {"timestamp": 1000, "output_length": 0}, ""))
    assert (trace.name, trace.block_tokens) == ("made", 512)
    assert [request.arrival_s for request in trace.requests] == [0.0, 2.0]
    assert [request.output_tokens for request in trace.requests] == [1, 7]
    assert trace.requests[1].blocks == (0, 9)
    assert trace.requests[1].prompt_tokens == 513


def test_azure_times_have_seven_digits(tmp_path: Path) -> None:
    rows = "2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 18:17:04.0319600,3180,8\r\n"
    trace = read_trace(azure(tmp_path, AZURE + rows))
    assert [request.arrival_s for request in trace.requests] == pytest.approx([0.0, 0.052], abs=1e-5)
    assert [(request.prompt_tokens, request.output_tokens) for request in trace.requests] == [(4808, 10), (3180, 8)]


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("input_length", {"input_length": "long"}),
        ("input_length", {"input_length": 0}),
        ("input_length", {"input_length": True}),
        ("input_length", {"input_length": 10**9}),
        ("output_length", {"output_length": -1}),
        ("timestamp", {"timestamp": None}),
        ("timestamp", {"timestamp": 0.5}),
        ("hash_ids", {"hash_ids": [1]}),
        ("hash_ids", {"hash_ids": ["a", "b"]}),
        ("hash_ids", {"hash_ids": 5}),
    ],
)
def test_a_mistake_is_named_by_line_and_field(tmp_path: Path, field: str, change: dict[str, Any]) -> None:
    with pytest.raises(TraceError, match=rf"^made\.jsonl:2: {field}: ") as caught:
        read_trace(mooncake(tmp_path, GOOD, GOOD | change))
    assert (caught.value.line, caught.value.field) == (2, field)
    assert "remedy" in str(caught.value)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"made\.jsonl:1: output_length: is missing"):
        read_trace(mooncake(tmp_path, {"timestamp": 0, "input_length": 1}))


@pytest.mark.parametrize("line", ['{"timestamp": 0', "[1]", "null"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(TraceError, match=r"made\.jsonl:2: not "):
        read_trace(mooncake(tmp_path, GOOD, line))


@pytest.mark.parametrize(
    ("field", "row"),
    [
        ("TIMESTAMP", "yesterday,1,1"),
        ("ContextTokens", "2023-11-16 18:17:03.9799600,0,1"),
        ("ContextTokens", "2023-11-16 18:17:03.9799600,-5,1"),
        ("GeneratedTokens", "2023-11-16 18:17:03.9799600,5,"),
        ("GeneratedTokens", "2023-11-16 18:17:03.9799600,5,٣"),
        ("", "2023-11-16 18:17:03.9799600,5"),
    ],
)
def test_a_mistake_in_csv_is_named_by_line_and_field(tmp_path: Path, field: str, row: str) -> None:
    good = "2023-11-16 18:17:03.9799600,4808,10\n"
    with pytest.raises(TraceError, match=rf"^made\.csv:3: {field}") as caught:
        read_trace(azure(tmp_path, f"{AZURE}{good}{row}\n"))
    assert (caught.value.line, caught.value.field) == (3, field)


@pytest.mark.parametrize("text", ["", "time,tokens\n1,2\n", AZURE, "TIMESTAMP,Tokens\n"])
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(TraceError, match=r"^made\.csv:1: "):
        read_trace(azure(tmp_path, text))


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        read_trace(tmp_path / "absent.jsonl")
    packed = tmp_path / "packed.jsonl"
    packed.write_bytes(b"\x1f\x8b\x00\xff")
    with pytest.raises(SetupError, match="UTF-8"):
        read_trace(packed)


@pytest.mark.parametrize(
    ("file", "requests", "longest", "seconds"),
    [
        ("conversation_trace.jsonl", 12_031, 126_195, 3537.0),
        ("AzureLLMInferenceTrace_code.csv", 8_819, 7_437, 3435.9),
        ("AzureLLMInferenceTrace_conv.csv", 19_366, 14_050, 3501.7),
    ],
)
def test_the_public_traces_are_read_whole(file: str, requests: int, longest: int, seconds: float) -> None:
    trace = read_trace(public_trace(file))
    assert len(trace.requests) == requests
    assert max(request.prompt_tokens for request in trace.requests) == longest
    assert trace.requests[-1].arrival_s == pytest.approx(seconds, abs=0.1)
