from __future__ import annotations

import json
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.reading import KEPT_READS, LINE_BYTES_MAX, StreamReader, code_in, tokens_in
from tests.fake_answers import DONE, Usage, closing, opening, token

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
USAGE = Usage(prompt=7, output=4, cached=3)


def stream(path: str, tokens: int = 4) -> list[bytes]:
    events = [token(path, index) for index in range(tokens)]
    return [opening(path, "m"), *events, closing(path, "m", USAGE, with_usage=True)]


def read(pieces: list[bytes], *, keeps_text: bool = False) -> StreamReader:
    reader = StreamReader(array("d"), keeps_text=keeps_text)
    for number, piece in enumerate(pieces):
        reader.take(piece, float(number))
    return reader


def event(choice: dict[str, object]) -> bytes:
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_each_event_with_text_has_the_time_of_its_read(path: str) -> None:
    reader = read(stream(path))
    assert list(reader.times) == [1.0, 2.0, 3.0, 4.0]
    assert reader.is_done
    assert tokens_in(reader.usage()) == (7, 3, 4)
    assert reader.error_code() is None


@given(st.data(), st.sampled_from([CHAT, COMPLETION]))
def test_where_reads_cut_a_stream_changes_nothing_but_times(data: st.DataObject, path: str) -> None:
    whole = b"".join(stream(path))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=8)))
    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    reader = read(pieces, keeps_text=True)
    assert len(reader.times) == 4
    assert (reader.is_done, tokens_in(reader.usage())) == (True, (7, 3, 4))
    assert reader.text() == "token0 token1 token2 token3 "


@given(st.text())
def test_a_text_cannot_pretend_to_be_a_field(text: str) -> None:
    tricky = f'{text}"content":"x" "text": "y"{text}'
    reader = read([event({"delta": {"content": tricky}})], keeps_text=True)
    assert len(reader.times) == 1
    assert reader.text() == tricky


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"role": "assistant", "content": ""}},
        {"delta": {}, "finish_reason": "length"},
        {"delta": {"content": None}, "finish_reason": "stop"},
        {"text": "", "finish_reason": "stop"},
    ],
)
def test_events_without_text_are_not_timed(choice: dict[str, object]) -> None:
    assert list(read([event(choice)]).times) == []


def test_reasoning_is_text_too() -> None:
    assert len(read([event({"delta": {"reasoning": "hm"}}), event({"delta": {"reasoning_content": "hm"}})]).times) == 2


def test_an_error_event_is_found_and_the_stream_is_not_done() -> None:
    error = b'data: {"error": {"message": "x", "type": "server_error", "code": "upstream_broken"}}\n\n'
    reader = read([*stream(CHAT)[:3], error])
    assert (reader.error_code(), reader.is_done) == ("upstream_broken", False)


def test_the_end_is_found_after_any_number_of_reads() -> None:
    reader = read([*stream(CHAT, tokens=5 * KEPT_READS)[:-1], closing(CHAT, "m", USAGE, with_usage=True)])
    assert (len(reader.times), reader.is_done, tokens_in(reader.usage())) == (5 * KEPT_READS, True, (7, 3, 4))


def test_a_stream_without_usage_tells_no_tokens() -> None:
    assert tokens_in(read([token(CHAT, 0), DONE]).usage()) == (0, 0, 0)


def test_a_line_without_an_end_is_not_held_for_ever() -> None:
    reader = read([b"x" * LINE_BYTES_MAX])
    assert not reader.is_too_long
    reader.take(b"x", 1.0)
    assert reader.is_too_long


@pytest.mark.parametrize("line", [b"data: {", b"data: []", b": comment", b"data: 3", b"event: x", b"\xff\xfe"])
def test_nonsense_is_no_event(line: bytes) -> None:
    reader = read([line + b"\n\n"], keeps_text=True)
    assert (list(reader.times), reader.usage(), reader.text(), reader.is_done) == ([], {}, "", False)


def test_a_code_is_the_servers_word() -> None:
    assert code_in({"error": {"code": "overloaded", "type": "x"}}) == "overloaded"
    assert code_in({"error": {"code": None, "type": "x"}}) == "x"
    assert code_in({"error": "text"}) == code_in({}) == ""
