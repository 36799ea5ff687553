"""One streamed chat completion: when its first token came, and what the engine computed of its prompt.

What must not live here: whom to ask, and what.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from cluster.core import wire
from cluster.core.errors import LongreachError

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 300.0
"""Between two bytes: a cold prompt behind another one, on cores that others use too."""
ERROR_CHARS_MAX = 500
DONE = "[DONE]"


class BenchError(LongreachError):
    """The bench cannot go on: what it asked was not answered as it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    text: str
    ttft_s: float
    """From sending the request to the first event with text."""
    prompt_tokens: int
    cached_tokens: int
    """Of these, not computed: from the engine's own cache, from the host's tier or from Redis."""
    replica: str
    """As the gateway names it; empty where a replica was asked itself."""
    explanation: Mapping[str, Any] | None = None

    @property
    def computed_tokens(self) -> int:
        """What was prefilled."""
        return self.prompt_tokens - self.cached_tokens


def open_client(*, connections: int = 8) -> httpx.Client:
    """A client whose every wait is bounded, for addresses on this machine."""
    return httpx.Client(
        timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=connections),
        trust_env=False,
    )


def ask(
    http: httpx.Client,
    url: str,
    messages: Sequence[Mapping[str, str]],
    *,
    model: str,
    answer_tokens: int,
    headers: Mapping[str, str],
) -> Answer:
    """Ask for exactly so many tokens, and read the answer to its end.

    Raises:
        BenchError: it was refused, broke off, or said nothing of its tokens.
    """
    body = {
        "model": model,
        "messages": list(messages),
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": answer_tokens,
        # Every answer is as long as every other: policies differ in nothing but where prompts go.
        "ignore_eos": True,
        "temperature": 0,
    }
    reading = _Reading(time.monotonic())
    try:
        with http.stream("POST", f"{url}/v1/chat/completions", json=body, headers=dict(headers)) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                raise BenchError(f"{url} answered {response.status_code}: {response.text[:ERROR_CHARS_MAX]}")
            for line in response.iter_lines():
                reading.take(line)
            return reading.answer(response.headers)
    except httpx.HTTPError as error:
        raise BenchError(f"{url}: {error or type(error).__name__}") from error


class _Reading:
    """An answer while it arrives."""

    def __init__(self, sent_s: float) -> None:
        self._sent_s = sent_s
        self._first_s: float | None = None
        self._parts: list[str] = []
        self._usage: dict[str, Any] = {}
        self._is_whole = False

    def take(self, line: str) -> None:
        """Read one line of the stream."""
        data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        if data == DONE:
            self._is_whole = True
        if not data or data == DONE:
            return
        event = json.loads(data)
        if "error" in event:
            raise BenchError(f"an answer broke off: {str(event['error'])[:ERROR_CHARS_MAX]}")
        self._usage = event.get("usage") or self._usage
        for choice in event.get("choices", ()):
            text = (choice.get("delta") or {}).get("content") or ""
            if text and self._first_s is None:
                self._first_s = time.monotonic()
            self._parts.append(text)

    def answer(self, headers: Mapping[str, str]) -> Answer:
        """All of it, once the stream has ended."""
        details = self._usage.get("prompt_tokens_details") or {}
        if not self._is_whole or self._first_s is None or "prompt_tokens" not in self._usage:
            raise BenchError("an answer ended early, without text, or without its number of tokens")
        explained = headers.get(wire.HEADER_EXPLANATION)
        return Answer(
            text="".join(self._parts),
            ttft_s=self._first_s - self._sent_s,
            prompt_tokens=int(self._usage["prompt_tokens"]),
            cached_tokens=int(details.get("cached_tokens") or 0),
            replica=headers.get(wire.HEADER_REPLICA, ""),
            explanation=json.loads(explained) if explained else None,
        )
