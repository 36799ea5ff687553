"""Askers: every turn once, answers in the next turn's prompt, the first failure ends it."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from loadtest.prefix.client import Answer, BenchError
from loadtest.prefix.routing import converse
from loadtest.prefix.workload import Conversation, Message, Shape, conversations, order

SHAPE = Shape(tenants=2, conversations=2, turns=3, document_words=10, turn_words=3)


def answer(text: str = "ok") -> Answer:
    return Answer(text=text, ttft_s=0.1, prompt_tokens=10, cached_tokens=0, replica="r")


@pytest.mark.parametrize("concurrency", [1, 3])
def test_every_turn_is_asked_with_what_was_said_before(concurrency: int) -> None:
    talks = conversations(SHAPE, seed=1, run="a")
    at_once = threading.Semaphore(concurrency)

    def ask(talk: Conversation, messages: Sequence[Message]) -> Answer:
        assert at_once.acquire(blocking=False)
        try:
            assert len(messages) == 2 * talk.asked
            return answer(f"answer {talk.asked}")
        finally:
            at_once.release()

    sent = converse(talks, order(SHAPE, seed=1), ask, concurrency=concurrency)
    assert len(sent) == SHAPE.requests
    assert all(len(talk.messages) == 1 + 2 * SHAPE.turns for talk in talks)
    assert {talk.messages[4]["content"] for talk in talks} == {"answer 2"}


def test_a_failure_ends_it() -> None:
    talks = conversations(SHAPE, seed=1, run="a")

    def ask(talk: Conversation, messages: Sequence[Message]) -> Answer:
        if talk.asked == 2:
            raise BenchError("refused")
        return answer()

    with pytest.raises(BenchError, match="refused"):
        converse(talks, order(SHAPE, seed=1), ask, concurrency=2)
