"""Steady requests to both pools through the gateway, and what a cut node cost them.

A short request every half second, which the long pool can hold too, and now and then a document, which only the
long pool holds; whatever becomes of the others. Every second one is streamed. What must not live here: the cluster,
pulling the cable.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

PERIOD_S = 0.5
SHORTS_A_DOCUMENT = 8
"""A document takes the time of a hundred short prompts, on cores that both engines share."""
SHORT_TOKENS, DOCUMENT_TOKENS = 50, 5000
"""Prompts; 5,000 tokens are over the short pool's 4,096."""
OUTPUT_TOKENS = 4
STREAM_TOKENS = 1500
"""Output of the streams that are under way when the cable is pulled: several seconds on a CPU, and then on the other
node within a request's time."""
UNANSWERED_TOKENS = 60
"""Output of whole answers that are under way then: a second, and again on the other node."""
ANSWER_LIMIT_S = 120.0
"""Twice what the gateway gives a request."""


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request; times are of `time.monotonic`."""

    kind: str
    is_streamed: bool
    began_s: float
    ended_s: float = 0.0
    status: int = 0
    """0 where the answer broke off or never came."""
    pool: str = ""
    attempts: int = 1

    @property
    def is_lost(self) -> bool:
        return self.status != httpx.codes.OK

    def __str__(self) -> str:
        streamed = "stream" if self.is_streamed else "whole"
        took_s = self.ended_s - self.began_s
        return f"{self.kind} {streamed} at {self.began_s:.2f} for {took_s:.2f} s: {self.status} {self.pool}"


@dataclass(slots=True, kw_only=True)
class Traffic:
    """Requests under way and past."""

    http: httpx.AsyncClient
    asked: list[Asked] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def keep_up(self) -> None:
        """Begin requests until cancelled."""
        for number in itertools.count():
            if number % SHORTS_A_DOCUMENT == 0:
                self.begin("document", is_streamed=number % (2 * SHORTS_A_DOCUMENT) == 0)
            self.begin("short", is_streamed=number % 2 == 0)
            await asyncio.sleep(PERIOD_S)

    def begin(self, kind: str, *, is_streamed: bool, output_tokens: int = OUTPUT_TOKENS) -> Asked:
        """Begin one request."""
        entry = Asked(kind=kind, is_streamed=is_streamed, began_s=time.monotonic())
        self.asked.append(entry)
        task = asyncio.create_task(self._ask(entry, output_tokens))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return entry

    async def settle(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._tasks)

    async def _ask(self, entry: Asked, output_tokens: int) -> None:
        tokens = DOCUMENT_TOKENS if entry.kind == "document" else SHORT_TOKENS
        body = {
            "model": "tiny",
            "prompt": [100] * tokens,
            "max_tokens": output_tokens,
            "ignore_eos": True,
            "stream": entry.is_streamed,
        }
        with contextlib.suppress(httpx.HTTPError):
            async with self.http.stream("POST", "/v1/completions", json=body) as answer:
                entry.pool = answer.headers.get("x-longreach-pool", "")
                entry.attempts = int(answer.headers.get("x-longreach-attempts", "1"))
                text = (await answer.aread()).decode()
                is_whole = not entry.is_streamed or text.rstrip().endswith("data: [DONE]")
                entry.status = answer.status_code if is_whole or answer.is_error else 0
        entry.ended_s = time.monotonic()


@contextlib.asynccontextmanager
async def traffic(url: str, key: str) -> AsyncIterator[Traffic]:
    """Traffic that keeps up until the end of the block, and is then waited for."""
    limits = httpx.Limits(max_connections=None)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=ANSWER_LIMIT_S, limits=limits) as http:
        made = Traffic(http=http)
        running = asyncio.create_task(made.keep_up())
        try:
            yield made
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await made.settle()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """When what happened, on `time.monotonic`."""

    cut_s: float
    expired_s: float
    """The lease was gone from the state store."""
    unchosen_s: float
    """The gateway's decision for a short request no longer began with the node."""
    mended_s: float
    leased_s: float
    """Its lease was back."""

    def figures(self, asked: Iterable[Asked]) -> dict[str, Any]:
        """What the cut cost, for the note; times in seconds after the cut, losses as [lost, of]."""
        entries = list(asked)

        def lost(chosen: Callable[[Asked], bool]) -> list[int]:
            found = [entry for entry in entries if chosen(entry)]
            return [sum(entry.is_lost for entry in found), len(found)]

        def is_short(entry: Asked) -> bool:
            return entry.kind == "short"

        slowest_s = max((one.ended_s - one.began_s for one in self.after_expiry(entries)), default=0.0)
        back_s = min(
            (one.ended_s for one in entries if one.pool == "short" and one.began_s > self.mended_s), default=0.0
        )
        return {
            "lease_expired_s": round(self.expired_s - self.cut_s, 2),
            "gateway_stopped_choosing_s": round(self.unchosen_s - self.cut_s, 2),
            "cable_back_s": round(self.mended_s - self.cut_s, 2),
            "lease_back_after_cable_s": round(self.leased_s - self.mended_s, 2),
            "served_again_after_cable_s": round(back_s - self.mended_s, 2),
            "lost_of_streams_at_cut": lost(lambda one: one.kind == "stream"),
            "lost_of_unanswered_at_cut": lost(self.was_unanswered),
            "lost_of_short_between_cut_and_expiry": lost(
                lambda one: is_short(one) and self.cut_s <= one.began_s < self.expired_s
            ),
            "lost_of_short_after_expiry": lost(lambda one: is_short(one) and one.began_s >= self.expired_s),
            "slowest_after_expiry_s": round(slowest_s, 2),
            "lost_of_documents": lost(lambda one: one.kind == "document"),
            "requests": len(entries),
        }

    def after_expiry(self, asked: Iterable[Asked]) -> list[Asked]:
        """Requests that came once the lease was gone."""
        return [entry for entry in asked if entry.began_s >= self.expired_s]

    def was_unanswered(self, entry: Asked) -> bool:
        """Whether a short request was under way at the cut, none of its answer with the client."""
        return entry.kind == "short" and not entry.is_streamed and entry.began_s < self.cut_s < entry.ended_s
