"""A request that may outgrow this context: what it gets here, and what is told when that is used up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.core import wire
from cluster.engine.budget import Budget, ContextRefusedError
from cluster.engine.call import Call
from cluster.engine.checked import counted, fitted
from tests.unit.engine.layer_harness import DONE, EVENT_STREAM, ask, budget, call, chunk, gate, head, reading

FULL = wire.COMMENT_FULL + b"\n\n"
GROWING = [
    (b"x-longreach-wants", b"ids"),
    (b"x-longreach-output-tokens", b"20"),
    (b"x-longreach-grows", b"500"),
]


class Params(SimpleNamespace):
    """As far as vLLM's are needed."""

    def clone(self) -> Params:
        return Params(**vars(self))


@pytest.mark.parametrize(
    ("grows", "given", "is_short"), [(None, 30, False), (60, 60, False), (90, 90, False), (91, 90, True)]
)
def test_it_gets_what_the_context_leaves(grows: int | None, given: int, is_short: bool) -> None:
    one, params = Call(budget=Budget(output_tokens=30), grows_tokens=grows), Params(max_tokens=30)
    assert fitted(params, one, 10, 100).max_tokens == given
    assert params.max_tokens == 30
    assert one.is_short is is_short


def test_what_it_needs_at_first_must_fit() -> None:
    with pytest.raises(ContextRefusedError):
        fitted(Params(max_tokens=30), Call(budget=Budget(output_tokens=30), grows_tokens=500), 71, 100)


@pytest.mark.parametrize(
    ("grows", "reason", "is_full"),
    [(500, "length", True), (500, "stop", False), (500, None, False), (90, "length", False)],
)
async def test_it_is_full_where_the_context_ends_a_choice(grows: int, reason: str | None, is_full: bool) -> None:
    one = Call(grows_tokens=grows)
    one.output_in(90)

    async def outputs() -> Any:
        choice = SimpleNamespace(index=0, token_ids=[5], finish_reason=reason)
        yield SimpleNamespace(outputs=[choice], prompt_token_ids=[1], num_cached_tokens=0, metrics=None)

    async for _ in counted(outputs(), one, one.tally.begin(1), is_delta=True):
        assert one.is_full is is_full


def streaming(*, is_full: bool) -> Any:
    async def app(body: Any, scope: Any, receive: Any, send: Any) -> None:
        del body, scope, receive
        assert budget().output_tokens == 20
        budget().check(7, 100)
        one = call()
        part = one.tally.begin(1)
        await send(head(headers=EVENT_STREAM))
        one.tally.output(part, 0, [5], is_delta=True, stamps=None)
        await send(chunk(b"data: a\n\n"))
        one.is_full = is_full
        one.tally.output(part, 0, [6], is_delta=True, stamps=None)
        await send(chunk(b"data: b\n\n"))
        await send(chunk(DONE))
        await send(chunk(b"", more=False))

    return reading(app)


@pytest.mark.parametrize("is_full", [True, False])
async def test_it_is_told_once_before_what_the_end_is_made_of(is_full: bool) -> None:
    body = {"stream": True, "max_tokens": 500}
    client = await ask(streaming(is_full=is_full), gate(), headers=GROWING, body=body)
    ids = wire.COMMENT_IDS
    told = FULL if is_full else b""
    assert client.text == ids + b"0:5\n\ndata: a\n\n" + told + ids + b"0:6\n\ndata: b\n\n" + DONE
