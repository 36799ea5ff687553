"""A stream cut anywhere: what is noted of it is what its client has, and the rest is what a replica sends."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core import wire
from cluster.core.request import Route
from cluster.core.resume import FIELD, Delivered, Group, decode_delivered, encode_delivered
from cluster.engine.resume.skip import Skip
from services.gateway.journal import Journal

IDS = st.lists(st.integers(0, 999_999), min_size=1, max_size=4)
STEPS = st.lists(st.tuples(IDS, st.integers(1, 3)), min_size=1, max_size=8)
"""Tokens that came together, and how many events were made of them."""
HEAD = [b"data: role\n\n", b"data: start\n\n"]
END = b"data: [DONE]\n\n"


def line(ids: list[int]) -> bytes:
    return wire.COMMENT_IDS + b"0:" + ",".join(map(str, ids)).encode() + b"\n\n"


def stream_of(steps: list[tuple[list[int], int]], heads: int) -> list[tuple[list[int], bytes]]:
    """Events, each with the tokens that were told before it."""
    found: list[tuple[list[int], bytes]] = [([], head) for head in HEAD[:heads]]
    for number, (ids, events) in enumerate(steps):
        found += [(ids if part == 0 else [], b"data: %d.%d\n\n" % (number, part)) for part in range(events)]
    return [*found, ([], END)]


def read(told: bytes) -> Delivered:
    return decode_delivered(json.loads(b"{%b}" % told)[FIELD])


@given(steps=STEPS, heads=st.integers(0, 2), data=st.data())
def test_a_client_gets_every_event_once(steps: list[tuple[list[int], int]], heads: int, data: st.DataObject) -> None:
    stream = stream_of(steps, heads)
    raw = b"".join((line(ids) if ids else b"") + event for ids, event in stream)
    cut = data.draw(st.integers(0, len(raw)), label="bytes that came")
    reads = sorted(data.draw(st.lists(st.integers(0, cut), max_size=4), label="ends of reads"))
    journal = Journal(Route.CHAT, 1000)
    passed = b"".join(journal.take(raw[begin:end]) for begin, end in zip([0, *reads], [*reads, cut], strict=True))
    events = [event for _, event in stream]
    count = passed.count(b"\n\n")
    assert passed == b"".join(events[:count])
    assert journal.is_complete is (count == len(events))
    skip = Skip(read(journal.delivered()))
    again = [event for ids, event in stream if not skip.keeps_back([(0, len(ids))])]
    assert again == events[count:]


@given(groups=st.lists(st.tuples(st.integers(0, 127), IDS), max_size=6), events=st.integers(0, 9))
def test_what_is_told_is_read_again(groups: list[tuple[int, list[int]]], events: int) -> None:
    lines = b"\n".join(b"%d:%b" % (choice, ",".join(map(str, ids)).encode()) for choice, ids in groups)
    expected = tuple(Group(choice=choice, ids=tuple(ids)) for choice, ids in groups)
    assert read(encode_delivered(lines, events)) == Delivered(groups=expected, events=events)


@pytest.mark.parametrize(
    "told",
    [None, [], {}, {"groups": "0:1"}, {"groups": 1, "events": 0}, {"groups": "0:1", "events": -1},
     {"groups": "0:1", "events": True}, {"groups": "0:", "events": 0}, {"groups": "x", "events": 0},
     {"groups": "128:1", "events": 0}, {"groups": "0:1,", "events": 0}],
)  # fmt: skip
def test_what_no_gateway_writes_is_refused(told: object) -> None:
    with pytest.raises(ValueError, match=FIELD):
        decode_delivered(told)


def test_an_output_that_is_too_long_passes_and_is_not_kept() -> None:
    journal = Journal(Route.CHAT, 1)
    event = b"data: a\n\n"
    assert journal.take((line([123456]) + event) * 3) == event * 3
    assert not journal.is_open
    half = b"data: b"
    assert journal.take(half) == half


@pytest.mark.parametrize(
    ("route", "error", "is_the_engines"),
    [
        (
            Route.CHAT,
            b'data: {"error":{"message":"dead","type":"InternalServerError","param":null,"code":500}}\n\n',
            True,
        ),
        (Route.CHAT, b'data: {"error":{"message":"no","type":"BadRequestError","param":null,"code":400}}\n\n', False),
        (Route.MESSAGES, b'event: error\ndata: {"type":"error","error":{"type":"internal_error"}}\n\n', True),
    ],
)
def test_an_engines_own_error_is_no_part_of_the_answer(route: Route, error: bytes, is_the_engines: bool) -> None:
    journal = Journal(route, 10)
    event = b"data: a\n\n"
    assert journal.take(event + error + END) == (event if is_the_engines else event + error + END)
    assert journal.has_failed is is_the_engines


def test_a_response_was_created_once() -> None:
    journal = Journal(Route.RESPONSES, 10)
    event = b'event: response.%b\ndata: {"response":{"id":"resp_a","created_at":%d,"output":[]}}\n\n'
    assert journal.take(event % (b"created", 17)) == event % (b"created", 17)
    journal.resumed()
    assert journal.take(event % (b"completed", 99)) == event % (b"completed", 17)
    assert journal.is_complete


def test_the_time_of_creation_stays_the_first_replicas() -> None:
    journal = Journal(Route.CHAT, 10)
    journal.take(b'data: {"created":17,"a":1}\n\n')
    journal.resumed()
    assert journal.take(b'data: {"created":99,"a":2}\n\n') == b'data: {"created":17,"a":2}\n\n'
