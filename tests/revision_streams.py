"""Streams of two revisions of a pool, begun in steps of its weights and read to their last token.

What must not live here: clusters, tests.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from dataclasses import dataclass

import httpx

from cluster.core.routing import session_hash, shares_of
from cluster.core.routing.traffic import in_order
from cluster.core.tenant import DEFAULT_TENANT
from tests.cluster_harness import until

STREAMS = 200
OPEN_STREAMS = 24
"""At once: both replicas together run 32, so neither the weights nor the drain are hidden by full replicas."""
OUTPUT_TOKENS = 96
LONG_STREAMS, LONG_TOKENS = 4, 2_000
"""The last before the old revision loses its weight, of sessions that belong to it: what the drain has to wait for."""
STEPS = ({"a": 1, "b": 0}, {"a": 3, "b": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 3}, {"a": 0, "b": 1})
STEP_STREAMS = STREAMS // len(STEPS)
STREAM_TIMEOUT_S = 900.0


@dataclass
class Stream:
    """What one client saw."""

    step: int
    tokens: int = OUTPUT_TOKENS
    session: str = ""
    revision: str = ""
    reason: str = ""
    attempts: int = 1
    began_s: float = 0.0
    ended_s: float = 0.0
    chunks: int = 0
    counted_tokens: int = 0
    usage_tokens: int = 0
    finish_reason: str = ""
    is_done: bool = False
    fault: str = ""

    @property
    def is_drawn(self) -> bool:
        """Whether it got its revision by weight."""
        return " by its share of " in self.reason

    @property
    def is_fallback(self) -> bool:
        """Whether there was nobody else: a starved replica may miss its lease, or a connection its time."""
        return self.attempts > 1 or self.reason.endswith("since none with a share of the traffic accepts")

    @property
    def is_lost(self) -> bool:
        whole = self.is_done and self.finish_reason == "length" and not self.fault
        return not whole or not self.usage_tokens == self.counted_tokens == self.tokens


async def read_stream(client: httpx.AsyncClient, stream: Stream, number: int) -> None:
    """One client: ask, and read to the end."""
    stream.began_s = time.monotonic()
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": f"Count from {number}."}],
        "max_tokens": stream.tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
    }
    try:
        headers = {"x-longreach-session": stream.session} if stream.session else {}
        async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
            stream.revision = answer.headers.get("x-longreach-revision", "")
            stream.reason = answer.headers.get("x-longreach-reason", "")
            stream.attempts = int(answer.headers.get("x-longreach-attempts", "1"))
            if answer.status_code != httpx.codes.OK:
                stream.fault = f"{answer.status_code} {(await answer.aread())[:200]!r}"
                return
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    read_event(stream, line.removeprefix("data: "))
    except httpx.HTTPError as error:
        stream.fault = repr(error)
    finally:
        stream.ended_s = time.monotonic()


def sessions_of(revision: str, traffic: dict[str, int], count: int) -> list[str]:
    """Sessions that draw this revision, on every gateway."""
    names = (f"session-{number}" for number in itertools.count())
    shares = shares_of({name: float(weight) for name, weight in traffic.items()})
    mine = (name for name in names if in_order(session_hash(DEFAULT_TENANT, name), shares)[0] == revision)
    return list(itertools.islice(mine, count))


def read_event(stream: Stream, data: str) -> None:
    if data == "[DONE]":
        stream.is_done = True
        return
    event = json.loads(data)
    if "error" in event:
        stream.fault = str(event["error"])
    for choice in event.get("choices", []):
        stream.chunks += 1
        stream.counted_tokens += len(choice.get("token_ids") or [])
        stream.finish_reason = choice.get("finish_reason") or stream.finish_reason
    if event.get("usage"):
        stream.usage_tokens = event["usage"]["completion_tokens"]


class Clients:
    """Start streams, `OPEN_STREAMS` at a time."""

    def __init__(self, client: httpx.AsyncClient, group: asyncio.TaskGroup, streams: list[Stream]) -> None:
        self._client = client
        self._group = group
        self._streams = streams
        self._places = asyncio.Semaphore(OPEN_STREAMS)

    async def begin(self, step: int) -> None:
        """Start the streams of one step, and wait until each has its first byte."""
        count = STEP_STREAMS - (LONG_STREAMS if step == len(STEPS) - 2 else 0)
        await self._start([Stream(step) for _ in range(count)])

    async def begin_long(self, step: int) -> None:
        """Start those that the drain has to wait for."""
        sessions = sessions_of("a", STEPS[step], LONG_STREAMS)
        await self._start([Stream(step, LONG_TOKENS, session) for session in sessions])

    async def _start(self, streams: list[Stream]) -> None:
        for stream in streams:
            await self._places.acquire()
            self._streams.append(stream)
            task = self._group.create_task(read_stream(self._client, stream, len(self._streams)))
            task.add_done_callback(lambda _: self._places.release())
        # Those on their way when the weights change would be decided by the new ones.
        await until(
            lambda: all(stream.revision or stream.fault for stream in streams),
            timeout_s=STREAM_TIMEOUT_S,
            what="every stream has begun",
        )
