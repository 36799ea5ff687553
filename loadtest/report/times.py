"""The times of one request, all from when it was due.

A client that sends late, because it or the service is behind, would otherwise leave the wait out (coordinated omission;
Tene, "How NOT to measure latency", 2013; wrk2). What must not live here: many requests.
"""

from __future__ import annotations

from loadtest.record import Record


def ttft_s(record: Record) -> float | None:
    """From due to the first token; None where none came."""
    return None if record.first_token_s is None else record.first_token_s - record.due_s


def e2e_s(record: Record) -> float:
    """From due to the end of the answer."""
    return record.ended_s - record.due_s


def tpot_s(record: Record) -> float | None:
    """The mean time between two tokens: from the first token to the end, over the tokens after the first.

    As in vLLM's `vllm bench serve`. None where fewer than two tokens came, or where the server did not tell how many.
    Of an answer that was no stream, the first token came at its end: it has none either.
    """
    if record.first_token_s is None or record.output_tokens < 2 or not record.gaps_s:  # noqa: PLR2004 - a gap has two ends
        return None
    return (record.ended_s - record.first_token_s) / (record.output_tokens - 1)


def lag_s(record: Record) -> float:
    """How late it was sent: the client's own fault, or a closed loop's."""
    return record.sent_s - record.due_s
