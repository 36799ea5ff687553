"""Sends a trace to a running gateway, each request at its time whatever became of those before it (open loop).

Prompts are words drawn at random, no two alike, so that nothing is cached; how many tokens they are the server says.
What must not live here: comparing (compare.py).
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from math import isnan, nan
from typing import Any, NamedTuple

import aiohttp

from cluster.simulator.trace import TraceRequest

WORD_LETTERS = 5
FIRST_WORDS_PER_TOKEN = 0.4
"""A guess that the first answer corrects."""
PROBE_TOKENS = 512
REQUEST_TIMEOUT_S = 600.0


class Answered(NamedTuple):
    """One request as it went."""

    sent_s: float
    """Since the replay began."""
    first_token_s: float
    ended_s: float
    prompt_tokens: int
    """As the server counted; 0: it failed."""
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """Where to."""

    url: str
    """Without /v1."""
    model: str


async def replay(aim: Aim, requests: Sequence[TraceRequest], *, seed: int) -> list[Answered]:
    """Every request's answer, in the trace's order.

    Args:
        aim: where to.
        requests: when they come, and how long their prompts and answers are; prompts come out within some percent.
        seed: of the words; another one each time, or prompts would be cached.
    """
    rng = random.Random(seed)  # noqa: S311 - words
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with aiohttp.ClientSession(
        aim.url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0), read_bufsize=2**20
    ) as session:
        probe = await _ask(session, aim.model, _words(rng, round(PROBE_TOKENS * FIRST_WORDS_PER_TOKEN)), 1, 0.0)
        per_token = round(PROBE_TOKENS * FIRST_WORDS_PER_TOKEN) / probe.prompt_tokens
        texts = [_words(rng, max(1, round(one.prompt_tokens * per_token))) for one in requests]
        begin_s = time.monotonic()
        tasks = []
        for one, text in zip(requests, texts, strict=True):
            await asyncio.sleep(max(begin_s + one.arrival_s - time.monotonic(), 0.0))
            tasks.append(asyncio.create_task(_ask(session, aim.model, text, one.output_tokens, begin_s)))
        return await asyncio.gather(*tasks)


async def _ask(session: aiohttp.ClientSession, model: str, text: str, output_tokens: int, begin_s: float) -> Answered:
    body = {
        "model": model,
        "prompt": text,
        "max_tokens": output_tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    sent_s = time.monotonic() - begin_s
    first_s, prompt_tokens, answer_tokens = nan, 0, 0
    async with session.post("/v1/completions", json=body) as response:
        if response.status == HTTPStatus.OK:
            async for event in _events(response.content):
                if event.get("choices") and isnan(first_s):
                    first_s = time.monotonic() - begin_s
                if usage := event.get("usage"):
                    prompt_tokens, answer_tokens = usage["prompt_tokens"], usage["completion_tokens"]
    return Answered(sent_s, first_s, time.monotonic() - begin_s, prompt_tokens, answer_tokens)


async def _events(lines: aiohttp.StreamReader) -> AsyncIterator[dict[str, Any]]:
    async for line in lines:
        if line.startswith(b"data:") and not line.rstrip().endswith(b"[DONE]"):
            yield json.loads(line.removeprefix(b"data:"))


def _words(rng: random.Random, count: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return " ".join("".join(rng.choices(letters, k=WORD_LETTERS)) for _ in range(count))
