"""What an answer cost, and what it was made of, travel with it where the gateway asks: and only there."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.core import wire
from cluster.core.errors import EngineStalledError
from cluster.core.outcome import ReplicaOutcome, decode_outcome
from cluster.engine.asgi import Message, Receive, Send
from tests.unit.engine.layer_harness import DONE, EVENT_STREAM, Client, ask, call, chunk, gate, head, reading

OUTCOME = [(b"x-longreach-wants", b"outcome")]
IDS = [(b"x-longreach-wants", b"ids")]
BOTH = [(b"x-longreach-wants", b"outcome,ids")]
STREAMING = {"stream": True}


def generating(*steps: list[int] | Message, prompts: int = 1, choices: int = 1) -> Any:
    """An application that generates ids (for choice 0 of its first prompt) and sends messages, in this order."""

    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        tally = call().tally
        parts = [tally.begin(choices) for _ in range(prompts)]
        for part in parts:
            tally.prompt(part, prompt_tokens=7, cached_tokens=4)
        for step in steps:
            if isinstance(step, list):
                tally.output(parts[0], 0, step, is_delta=True, stamps=None)
            else:
                await send(step)

    return reading(app)


def outcome_in(client: Client) -> ReplicaOutcome:
    """The outcome at the very end of a stream."""
    before, _, line = client.text.rpartition(wire.COMMENT_OUTCOME)
    assert before.endswith(b"\n\n")
    assert line.endswith(b"\n\n")
    found = decode_outcome(line)
    assert found is not None
    return found


async def test_a_whole_answer_has_its_outcome_in_a_header() -> None:
    client = await ask(generating([5, 6], head(), chunk(b"{}", more=False), prompts=2), gate(), headers=OUTCOME)
    assert decode_outcome(client.headers[wire.HEADER_OUTCOME]) == ReplicaOutcome(
        prompt_tokens=14, output_tokens=2, cached_tokens=8
    )
    assert client.text == b"{}"


async def test_a_stream_ends_with_its_outcome() -> None:
    app = generating(
        head(headers=EVENT_STREAM),
        [5],
        chunk(b"data: a\n\n"),
        [6, 7],
        chunk(b"data: b\n\n"),
        chunk(DONE),
        chunk(b"", more=False),
    )
    client = await ask(app, gate(), headers=OUTCOME, body=STREAMING)
    assert client.text.startswith(b"data: a\n\ndata: b\n\n" + DONE + wire.COMMENT_OUTCOME)
    assert outcome_in(client) == ReplicaOutcome(prompt_tokens=7, output_tokens=3, cached_tokens=4)
    assert wire.HEADER_OUTCOME not in client.headers
    assert client.is_finished


async def test_a_stream_that_ends_within_an_event_still_has_an_outcome_of_its_own() -> None:
    app = generating(head(headers=EVENT_STREAM), [5], chunk(b"data: half", more=False))
    client = await ask(app, gate(), headers=BOTH, body=STREAMING)
    assert client.text.startswith(wire.COMMENT_IDS + b"0:5\n\ndata: half\n\n" + wire.COMMENT_OUTCOME)


async def test_ids_come_before_the_events_made_of_them_in_one_write() -> None:
    app = generating(
        head(headers=EVENT_STREAM),
        chunk(b"data: role\n\n"),
        [5],
        chunk(b"data: a\n\n"),
        [6],
        [7],
        chunk(b"data: b\n\n"),
        chunk(DONE),
        chunk(b"", more=False),
    )
    client = await ask(app, gate(), headers=IDS, body=STREAMING)
    writes = [message["body"] for message in client.got[1:]]
    assert writes == [
        b"data: role\n\n",
        b": longreach-ids 0:5\n\ndata: a\n\n",
        b": longreach-ids 0:6\n\n: longreach-ids 0:7\n\ndata: b\n\n",
        DONE,
        b"",
    ]


async def test_ids_never_land_within_an_event() -> None:
    app = generating(
        head(headers=EVENT_STREAM), [5], chunk(b"event: x\n"), [6], chunk(b"data: a\n\n"), chunk(b"", more=False)
    )
    client = await ask(app, gate(), headers=IDS, body=STREAMING)
    assert client.text == b": longreach-ids 0:5\n\nevent: x\ndata: a\n\n: longreach-ids 0:6\n\n"


async def test_every_choice_of_every_prompt_has_ids_of_its_own() -> None:
    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        tally = call().tally
        first, second = tally.begin(2), tally.begin(2)
        await send(head(headers=EVENT_STREAM))
        tally.output(second, 1, [9], is_delta=True, stamps=None)
        tally.output(first, 1, [8], is_delta=True, stamps=None)
        await send(chunk(b'data: {"choices":[{"index":3,"text":"a"}]}\n\n'))
        await send(chunk(b'data: {"choices":[{"index":0,"text":"b"}]}\n\n', more=False))

    client = await ask(reading(app), gate(), headers=IDS, body=STREAMING)
    first, second, third = client.text.split(b"data: ")
    assert first == b": longreach-ids 3:9\n\n"
    assert second.endswith(b"\n\n")
    assert third.endswith(b"\n\n: longreach-ids 1:8\n\n")


@pytest.mark.parametrize("kind", [[], EVENT_STREAM], ids=["whole", "stream"])
async def test_who_does_not_ask_gets_vllms_own_bytes(kind: list[tuple[bytes, bytes]]) -> None:
    app = generating([5], head(headers=kind), chunk(b"data: a\n\n"), chunk(DONE, more=False))
    client = await ask(app, gate(), body=STREAMING)
    assert client.text == b"data: a\n\n" + DONE
    assert client.headers == {key.decode(): value.decode() for key, value in kind}


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_errors_have_no_outcome(status: int) -> None:
    client = await ask(generating(head(status), chunk(b"{}", more=False)), gate(), headers=BOTH)
    assert client.headers == {}
    assert client.text == b"{}"


async def test_a_stream_that_breaks_has_no_outcome() -> None:
    own_gate, client = gate(), Client()

    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, scope, receive
        await send(head(headers=EVENT_STREAM))
        own_gate.break_off("gone")
        await send(chunk(DONE, more=False))

    with pytest.raises(EngineStalledError):
        await ask(reading(app), own_gate, client=client, headers=BOTH, body=STREAMING)
    assert client.text == b""


async def test_a_beam_search_costs_what_vllm_says() -> None:
    async def app(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        del body, receive
        tally = call().tally
        for step in range(5):
            for _ in range(3):
                part = tally.begin(1)
                tally.prompt(part, prompt_tokens=7 + step, cached_tokens=step)
                tally.output(part, 0, [1], is_delta=False, stamps=None)
        usage = SimpleNamespace(prompt_tokens=7, completion_tokens=10)
        scope["state"]["request_metadata"] = SimpleNamespace(final_usage_info=usage)
        await send(head())
        await send(chunk(b"{}", more=False))

    client = await ask(reading(app), gate(), headers=OUTCOME, body={"use_beam_search": True, "max_tokens": 5})
    found = decode_outcome(client.headers[wire.HEADER_OUTCOME])
    assert found == ReplicaOutcome(prompt_tokens=7, output_tokens=10, cached_tokens=0)


async def test_tallies_of_concurrent_requests_are_their_own() -> None:
    both = asyncio.Barrier(2)

    def app(tokens: int) -> Any:
        async def inner(body: bytes, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
            del body, scope, receive
            part = call().tally.begin(1)
            for _ in range(tokens):
                call().tally.output(part, 0, [1], is_delta=True, stamps=None)
                await asyncio.sleep(0)
            await both.wait()
            await send(head())
            await send(chunk(b"{}", more=False))

        return reading(inner)

    clients = await asyncio.gather(*(ask(app(tokens), gate(), headers=OUTCOME) for tokens in (3, 8)))
    found = [decode_outcome(client.headers[wire.HEADER_OUTCOME]) for client in clients]
    assert [outcome.output_tokens for outcome in found if outcome] == [3, 8]


async def test_events_before_the_first_token_of_a_response_are_made_of_none() -> None:
    """vLLM writes them before it asks its engine, and the guard keeps them until it has: the first tokens are there."""
    begin = [b"event: response.%b\ndata: {}\n\n" % name for name in (b"created", b"in_progress")]
    added, delta = (b"event: response.%b\ndata: {}\n\n" % name for name in (b"output_item.added", b"output_text.delta"))
    app = generating(head(headers=EVENT_STREAM), [5], [6], *map(chunk, begin), chunk(added), chunk(delta, more=False))
    client = await ask(app, gate(), headers=IDS, body=STREAMING)
    lines = wire.COMMENT_IDS + b"0:5\n\n" + wire.COMMENT_IDS + b"0:6\n\n"
    assert client.text == b"".join(begin) + lines + added + delta
