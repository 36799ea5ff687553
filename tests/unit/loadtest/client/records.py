"""Records for tests of the load client."""

from __future__ import annotations

from dataclasses import replace

from loadtest.record import Record

GOOD = Record(
    label="chat", tenant="", session=0, turn=0, due_s=1.0, sent_s=1.0, first_token_s=1.5, ended_s=2.0, gaps_s=[0.5],
    status=200, error="", code="", prompt_tokens=3, cached_tokens=0, output_tokens=2, pool="short", replica="r",
)  # fmt: skip


def good(at_s: float = 1.0, *, ttft_s: float = 0.5) -> Record:
    return replace(GOOD, due_s=at_s, sent_s=at_s, first_token_s=at_s + ttft_s, ended_s=at_s + ttft_s)


def failed(at_s: float = 1.0, *, error: str = "refused", code: str = "") -> Record:
    return replace(GOOD, due_s=at_s, first_token_s=None, ended_s=at_s, status=429, error=error, code=code)
