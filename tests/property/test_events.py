"""Server-sent events on their way through, however the network cuts them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from cluster.core import wire
from cluster.core.outcome import ReplicaOutcome, encode_outcome
from cluster.core.request import Route
from services.api.events import EventFilter, usage_in

OUTCOME = ReplicaOutcome(prompt_tokens=12, output_tokens=3, cached_tokens=8)
TEXTS = st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=30), max_size=8)


def event(text: str, end: str = "\n\n") -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}{end}".encode()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    starts = [0, *ends[:-1]]
    return [data[start:end] for start, end in zip(starts, ends, strict=True)]


def passed(events: EventFilter, pieces: list[bytes]) -> tuple[bytes, list[bytes]]:
    sent = [events.take(piece) for piece in pieces[:-1]]
    sent.append(events.last(pieces[-1]))
    return b"".join(sent), sent


@given(texts=TEXTS, places=st.lists(st.integers(0, 10_000)), end=st.sampled_from(["\n\n", "\r\n\r\n"]))
def test_only_whole_events_pass_and_all_of_them(texts: list[str], places: list[int], end: str) -> None:
    stream = b"".join(event(text, end) for text in texts) + f"data: [DONE]{end}".encode()
    events = EventFilter(Route.CHAT, is_foreign=False, hides_usage=False)
    whole, parts = passed(events, cut(stream, places))
    assert whole == stream
    assert all(part == b"" or part.endswith(end.encode()) for part in parts)
    assert events.is_done


@given(texts=TEXTS, places=st.lists(st.integers(0, 10_000)))
def test_the_side_channel_is_kept_and_not_passed(texts: list[str], places: list[int]) -> None:
    ids = [f"0:{number},{number + 1}".encode() for number, _ in enumerate(texts)]
    stream = b"".join(wire.COMMENT_IDS + told + b"\n\n" + event(text) for told, text in zip(ids, texts, strict=True))
    stream += b"data: [DONE]\n\n" + wire.COMMENT_OUTCOME + encode_outcome(OUTCOME).encode() + b"\n\n"
    events = EventFilter(Route.CHAT, is_foreign=False, hides_usage=False)
    whole, _ = passed(events, cut(stream, places))
    assert whole == b"".join(map(event, texts)) + b"data: [DONE]\n\n"
    assert events.outcome == OUTCOME


@given(texts=TEXTS, places=st.lists(st.integers(0, 10_000)), hides=st.booleans())
def test_a_foreign_engines_usage_is_read_and_hidden_where_nobody_asked(
    texts: list[str], places: list[int], hides: bool
) -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}}
    last = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    stream = b"".join(map(event, texts)) + last + b"data: [DONE]\n\n"
    events = EventFilter(Route.CHAT, is_foreign=True, hides_usage=hides)
    whole, _ = passed(events, cut(stream, places))
    assert whole == stream.replace(last, b"" if hides else last)
    assert events.outcome == OUTCOME


def test_a_stream_without_its_terminator_is_not_done() -> None:
    events = EventFilter(Route.COMPLETIONS, is_foreign=False, hides_usage=False)
    assert events.last(event("a")) == event("a")
    assert not events.is_done
    assert EventFilter(Route.RESPONSES, is_foreign=False, hides_usage=False).is_done


@given(text=st.text())
def test_what_a_model_writes_is_never_taken_for_usage(text: str) -> None:
    written = f'"usage": {{"prompt_tokens": 99}} {text}'
    body = json.dumps({"choices": [{"message": {"content": written}}]}).encode()
    assert usage_in(body) is None
