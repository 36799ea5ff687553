"""A stream that moves, fills its context or breaks, at any moment and as often as may be: its client has it once."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from cluster.core import wire
from cluster.core.request import ContextNeed, OutputPolicy, Route, growing, outgrown
from cluster.core.resume import FIELD, decode_delivered
from cluster.engine.resume.skip import Skip
from services.api.events import EventFilter
from services.gateway.journal import Journal
from services.gateway.resuming import ResumableAnswer
from services.gateway.upstream import AnswerReader, FailureKind, UpstreamAnswer, UpstreamFailure
from tests.property.test_resume import END, STEPS, line, stream_of

Told = list[tuple[list[int], bytes]]
FAILURE = UpstreamFailure(kind=FailureKind.RESET, detail="")
SHORT_END = [b"data: length\n\n", END]
ACTIONS_MAX = 100
"""Of one stream: eight reads, four moves, two breaks, and who is found for each."""
TURNS = 3
"""Of the loop: for a search to hear, and for a task to end."""


class Reader:
    """The client."""

    def __init__(self) -> None:
        self.got = b""
        self.is_over = False
        self._filter = EventFilter(Route.CHAT, is_foreign=False, hides_usage=False)

    def data(self, payload: bytes, *, is_last: bool) -> None:
        assert not self.is_over
        self.got += self._filter.last(payload) if is_last else self._filter.take(payload)
        self.is_over = is_last

    def broke_off(self, failure: UpstreamFailure) -> None:
        raise AssertionError(failure)


class Replica:
    """One replica's stream, in the reads in which it comes."""

    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - nobody writes into it

    def __init__(self, reads: list[bytes]) -> None:
        self.reads = deque(reads)
        self.reader: AnswerReader | None = None
        self.is_closed = self.is_broken = False

    def read(self, reader: AnswerReader) -> None:
        self.reader = reader

    def close(self) -> None:
        self.is_closed = True

    @property
    def gives(self) -> bool:
        return bool(self.reads) and not self.is_closed

    def give(self) -> None:
        assert self.reader is not None
        payload = self.reads.popleft()
        self.reader.data(payload, is_last=not self.reads)

    def breaks(self) -> None:
        assert self.reader is not None
        self.is_broken = True
        self.reads.clear()
        self.reader.broke_off(FAILURE)


class Search:
    """Who goes on is decided from outside."""

    asked_in_vain = 0

    def __init__(self) -> None:
        self.asked: asyncio.Future[UpstreamAnswer | None] | None = None
        self.may_fail = False

    async def _ask(self, *, may_fail: bool) -> UpstreamAnswer | None:
        self.asked, self.may_fail = asyncio.get_running_loop().create_future(), may_fail
        try:
            return await self.asked
        finally:
            self.asked = None

    async def go_on(self, failure: UpstreamFailure) -> UpstreamAnswer | None:
        assert failure is FAILURE
        return await self._ask(may_fail=False)

    async def elsewhere(self) -> UpstreamAnswer | None:
        return await self._ask(may_fail=True)

    async def larger(self) -> UpstreamAnswer | None:
        return await self._ask(may_fail=True)


def replica(stream: Told, journal: Journal, data: st.DataObject) -> Replica:
    """Goes on with what is noted; its context may be full before the end."""
    skip = Skip(decode_delivered(json.loads(b"{%b}" % journal.delivered())[FIELD]))
    rest = [(ids, event) for ids, event in stream if not skip.keeps_back([(0, len(ids))])]
    parts = [(line(ids) if ids else b"") + event for ids, event in rest]
    full = data.draw(st.none() | st.integers(0, max(len(parts) - 1, 0)), label="events that its context holds")
    if full is not None:
        parts = [*parts[:full], wire.COMMENT_FULL + b"\n\n", *SHORT_END]
    raw = b"".join(parts)
    ends = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=5), label="ends of reads"))
    return Replica([raw[begin:end] for begin, end in zip([0, *ends], [*ends, len(raw)], strict=True)])


class Play:
    """One stream, and what happens to it."""

    def __init__(self, stream: Told, data: st.DataObject) -> None:
        self._stream, self._data = stream, data
        self._journal, self._search, self.reader = Journal(Route.CHAT, 1000), Search(), Reader()
        self._current = replica(stream, self._journal, data)
        self._answer = ResumableAnswer(cast("UpstreamAnswer", self._current), self._journal, self._search)
        self._moves, self._breaks = 4, 2
        self.was_refused = False
        """Whether nobody took a stream whose context was full."""

    async def run(self) -> None:
        self._answer.read(self.reader)
        for _ in range(ACTIONS_MAX):
            if self.reader.is_over:
                break
            await self._step(self._data.draw(st.sampled_from(self._possible()), label="action"))
        assert self.reader.is_over
        assert self._answer.leave() is None

    def _possible(self) -> list[str]:
        found = []
        if self._current.gives:
            found += ["read"] + ["leave"] * bool(self._moves) + ["break"] * bool(self._breaks and not self.was_refused)
        if self._search.asked is not None:
            found += ["found"] * bool(self._moves or not self._search.may_fail) + ["nobody"] * self._search.may_fail
        return found

    async def _step(self, action: str) -> None:
        before, asked = self._current, self._search.asked
        if action == "read":
            self._current.give()
        elif action == "leave":
            self._moves -= 1
            self._answer.leave()
        elif action == "break":
            self._breaks -= 1
            self._current.breaks()
        elif action == "found" and asked is not None:
            self._moves = max(self._moves - 1, 0)
            self._current = replica(self._stream, self._journal, self._data)
            asked.set_result(cast("UpstreamAnswer", self._current))
        elif asked is not None:
            self.was_refused |= self._journal.is_full and not before.is_broken
            asked.set_result(None)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert before.is_closed is (before is not self._current)


@given(steps=STEPS, heads=st.integers(0, 2), data=st.data())
def test_a_client_gets_every_event_once(steps: list[tuple[list[int], int]], heads: int, data: st.DataObject) -> None:
    stream = stream_of(steps, heads)
    play = Play(stream, data)
    asyncio.run(play.run())
    got = play.reader.got
    events = [event for _, event in stream]
    if got != b"".join(events):
        # Only where a context was full and nobody took the stream it ends early, and as its replica would end it.
        assert play.was_refused
        count = got.count(b"\n\n") - len(SHORT_END)
        assert got == b"".join([*events[:count], *SHORT_END])


TOKENS = st.integers(1, 5000)


@given(prompt=TOKENS, asked=st.none() | TOKENS, default=TOKENS, cap=st.none() | TOKENS, largest=TOKENS)
def test_what_a_stream_needs_at_first_is_no_more_than_what_it_may_have(
    prompt: int, asked: int | None, default: int, cap: int | None, largest: int
) -> None:
    is_explicit = asked is not None
    policy = OutputPolicy(default_tokens=default, max_tokens=cap, grows=True)
    need = ContextNeed(prompt_tokens=prompt, output_tokens=asked or default, is_explicit=is_explicit)
    at_first, most = growing(need, policy, largest_context_tokens=largest)
    assert at_first.prompt_tokens == prompt
    assert at_first.output_tokens <= need.output_tokens
    if most is None:
        assert at_first == need
    elif is_explicit:
        assert most == asked
        assert most > at_first.output_tokens == default
        assert prompt + most <= largest
    else:
        assert most == (cap or largest)
    if need.total_tokens > largest:
        assert most is None
    assert growing(need, OutputPolicy(default_tokens=default), largest_context_tokens=largest) == (need, None)


@given(prompt=TOKENS, output=TOKENS, context=TOKENS)
def test_a_context_that_is_full_does_not_hold_what_outgrew_it(prompt: int, output: int, context: int) -> None:
    need = ContextNeed(prompt_tokens=prompt, output_tokens=output, is_explicit=True)
    assert outgrown(need, context).total_tokens > context
    assert outgrown(need, context).output_tokens >= output
