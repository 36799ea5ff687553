"""Measures an OpenAI-compatible server for a calibration: prompts alone and at once, then batches that decode.

The server should have nothing else to do. What must not live here: explaining the times (fit.py).
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import TYPE_CHECKING

from cluster.core.capacity.step import prefill_pairs
from cluster.core.errors import LongreachError, SetupError
from cluster.planner.fit import Observation

if TYPE_CHECKING:
    import httpx

SHORTEST_PROMPT_TOKENS = 128
PROMPT_POINTS = 5
"""Lengths of prompt, each about so much longer than the one before: enough to tell what grows by the token from what
grows by the pair."""
DECODE_S = 1.0
"""A batch decodes so long, if that is no more tokens than `DECODE_TOKENS_MAX`: what a processor does after a rest is
slower."""
DECODE_TOKENS, DECODE_TOKENS_MAX, FURTHER_DECODE_TOKENS = 40, 400, 4
"""Of each answer at least and at most, and more of it by sequence at once: the first answers go on while the last
prompts are computed."""
WORD_LETTERS = 5
WORDS_PER_TOKEN = 0.4
"""First guess; the server's own count of tokens corrects it."""
TIMEOUT_S = 600.0
"""A prompt of 200,000 tokens takes minutes on a processor."""
ERROR_CHARACTERS = 300
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is measured, and how far."""

    url: str
    """Without /v1."""
    model: str
    batch_tokens: int
    """Prompt tokens that its steps compute at most."""
    longest_prompt_tokens: int
    most_running: int
    repeats: int
    seed: int
    """Of the prompts' words. No two prompts share a beginning, so nothing is cached; use another seed each time."""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def prompt_lengths(self) -> tuple[int, ...]:
        """Tokens, shortest first, evenly on a logarithmic scale."""
        least = min(SHORTEST_PROMPT_TOKENS, self.longest_prompt_tokens)
        ratio = (self.longest_prompt_tokens / least) ** (1 / (PROMPT_POINTS - 1))
        return tuple(dict.fromkeys(round(least * ratio**place) for place in range(PROMPT_POINTS)))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Requests at once: each twice the one before."""
        return tuple(2**power for power in range(self.most_running.bit_length()))

    @property
    def batches(self) -> tuple[tuple[int, int], ...]:
        """Sequences at once, and tokens of each prompt: with little context and with much."""
        short, long = self.prompt_lengths[0], max(self.prompt_lengths[-1] // 2, self.prompt_lengths[0])
        return tuple((size, length) for length in dict.fromkeys((short, long)) for size in self.sizes)

    @property
    def rounds(self) -> int:
        """Measurements in all."""
        return 1 + self.repeats * (len(self.prompt_lengths) + len(self.sizes) - 1 + len(self.batches))


@dataclass(slots=True)
class _Answer:
    prompt_tokens: int = 0
    output_tokens: int = 0
    begun_s: float = 0.0
    times_s: list[float] = field(default_factory=list)


async def measure(target: Target, report: Report) -> tuple[Observation, ...]:
    """Every observation; of the repeats of one, the median.

    Args:
        target: what is measured.
        report: told before each measurement.

    Raises:
        SetupError: the server cannot be reached, or does not know the model.
        LongreachError: it refused a request.
    """
    import httpx

    async with httpx.AsyncClient(base_url=target.url, timeout=TIMEOUT_S, headers=target.headers) as client:
        try:
            return await _measured(_Prompts(client, target), target, report)
        except httpx.TransportError as error:
            raise SetupError(
                f"{target.url} cannot be measured: {error!r}", "start the server, or name it: --url URL"
            ) from error


async def _measured(prompts: _Prompts, target: Target, report: Report) -> tuple[Observation, ...]:
    report("a first request")
    first = (await prompts.ask(SHORTEST_PROMPT_TOKENS, DECODE_TOKENS)).times_s
    tokens_per_s = len(first) / max(first[-1] - first[0], 1e-3)
    decode_tokens = min(max(round(DECODE_S * tokens_per_s), DECODE_TOKENS), DECODE_TOKENS_MAX)
    found = []
    for length in target.prompt_lengths:
        again = []
        for _ in range(target.repeats):
            report(f"a prompt of {length:,} tokens")
            again.append(_prefill([await prompts.ask(length, 1)], target.batch_tokens))
        found.append(_middle(again))
    for size in target.sizes[1:]:
        again = []
        for _ in range(target.repeats):
            report(f"{size} prompts at once")
            answers = await asyncio.gather(*(prompts.ask(target.prompt_lengths[0], 1) for _ in range(size)))
            again.append(_prefill(answers, target.batch_tokens))
        found.append(_middle(again))
    for size, length in target.batches:
        again = []
        for _ in range(target.repeats):
            report(f"{size} at once, {length:,} tokens each")
            tokens = min(
                decode_tokens + FURTHER_DECODE_TOKENS * size, max(target.longest_prompt_tokens - length, DECODE_TOKENS)
            )
            answers = await asyncio.gather(*(prompts.ask(length, tokens) for _ in range(size)))
            again.append(_decode(answers))
        found.append(_middle(again))
    return tuple(found)


class _Prompts:
    """Sends prompts of random words."""

    def __init__(self, client: httpx.AsyncClient, target: Target) -> None:
        self._client = client
        self._model = target.model
        self._words = random.Random(target.seed)  # noqa: S311 - words nobody has to keep from guessing
        self._words_per_token = WORDS_PER_TOKEN

    async def ask(self, prompt_tokens: int, output_tokens: int) -> _Answer:
        words = max(1, round(prompt_tokens * self._words_per_token))
        letters = "abcdefghijklmnopqrstuvwxyz"
        text = " ".join("".join(self._words.choices(letters, k=WORD_LETTERS)) for _ in range(words))
        body = {
            "model": self._model,
            "prompt": text,
            "max_tokens": output_tokens,
            "temperature": 0.0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        answer = _Answer(begun_s=time.monotonic())
        async with self._client.stream("POST", "/v1/completions", json=body) as response:
            if response.is_error:
                said = (await response.aread()).decode(errors="replace")[:ERROR_CHARACTERS]
                raise LongreachError(f"{response.url} answered {response.status_code}: {said}")
            await _read(response.aiter_lines(), answer)
        if not answer.times_s or not answer.prompt_tokens:
            raise LongreachError(f"{response.url} streamed no tokens, or did not say how many (usage)")
        self._words_per_token = words / answer.prompt_tokens
        return answer


async def _read(lines: AsyncIterator[str], answer: _Answer) -> None:
    async for line in lines:
        if not line.startswith("data:") or line.endswith("[DONE]"):
            continue
        now_s = time.monotonic()
        event = json.loads(line.removeprefix("data:"))
        usage = event.get("usage")
        if usage:
            answer.prompt_tokens = usage["prompt_tokens"]
            answer.output_tokens = usage["completion_tokens"]
        if event.get("choices"):
            answer.times_s.append(now_s)


def _prefill(answers: list[_Answer], batch_tokens: int) -> Observation:
    """The time until the last of them has its first token, if steps are as full as they can be."""
    tokens = [answer.prompt_tokens for answer in answers]
    full, rest = divmod(sum(tokens), batch_tokens)
    steps = ((float(full), batch_tokens), (1.0, rest))
    return Observation(
        name=f"prefill of {len(answers)} with {round(fmean(tokens)):,}",
        steps=tuple((count, size) for count, size in steps if count and size),
        attended_tokens=sum(prefill_pairs(0, one) for one in tokens),
        context_tokens=0,
        decoded=0,
        begun=len(answers),
        ways=1,
        seconds=max(answer.times_s[0] for answer in answers) - min(answer.begun_s for answer in answers),
    )


def _decode(answers: list[_Answer]) -> Observation:
    """Of the time in which all decode, one step's part."""
    begin_s = max(answer.times_s[0] for answer in answers)
    end_s = min(answer.times_s[-1] for answer in answers)
    if end_s <= begin_s:
        raise LongreachError(
            f"{len(answers)} streams never decoded at the same time: it runs fewer at once: lower --most-running"
        )
    tokens = sum(
        sum(begin_s < time_s <= end_s for time_s in answer.times_s)
        * (max(answer.output_tokens - 1, 1) / max(len(answer.times_s) - 1, 1))
        for answer in answers
    )
    held = sum(answer.prompt_tokens + answer.output_tokens / 2 for answer in answers)
    return Observation(
        name=f"decode of {len(answers)} with {round(fmean(answer.prompt_tokens for answer in answers)):,}",
        steps=((1.0, len(answers)),),
        attended_tokens=0,
        context_tokens=held,
        decoded=len(answers),
        begun=0,
        ways=0,
        seconds=(end_s - begin_s) * len(answers) / tokens,
    )


def _middle(again: list[Observation]) -> Observation:
    """The one whose time is the median of them, of two the shorter: what disturbs only ever adds."""
    wanted = median([one.seconds for one in again])
    return max((one for one in again if one.seconds <= wanted), key=lambda one: one.seconds)
