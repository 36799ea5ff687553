"""What a replica reports of one answer: what it cost, exactly.

What lives here: the record, and its one form on the wire. What must not: headers and comment lines (wire.py), adding
up (usage).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, TypeGuard

MAX_TOKENS = 2**53
"""Beyond what any engine counts and JSON readers keep exactly; a larger number is a broken report."""
MAX_S = 7 * 86_400.0
"""A week: no request lives so long; a longer time is a broken report."""


class ReplicaOutcome(NamedTuple):
    """One answer's cost, as the engine counted it."""

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    """Prompt tokens that were not computed: engine memory, host memory and Redis together."""
    queue_s: float = 0.0
    """From the engine's arrival to its first scheduling."""
    prefill_s: float = 0.0
    """From the first scheduling to the first token."""
    decode_s: float = 0.0
    """From the first token to the last."""


def encode_outcome(outcome: ReplicaOutcome) -> str:
    """One line of JSON."""
    return json.dumps(outcome._asdict(), separators=(",", ":"))


def decode_outcome(text: str | bytes) -> ReplicaOutcome | None:
    """Read what `encode_outcome` wrote; None where it is anything else. Unknown fields are ignored."""
    try:
        data = json.loads(text)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    told = data.get
    prompt, output, cached = told("prompt_tokens"), told("output_tokens"), told("cached_tokens", 0)
    queue_s, prefill_s, decode_s = told("queue_s", 0.0), told("prefill_s", 0.0), told("decode_s", 0.0)
    if not (_is_count(prompt) and _is_count(output) and _is_count(cached)):
        return None
    if not (_is_time(queue_s) and _is_time(prefill_s) and _is_time(decode_s)):
        return None
    return ReplicaOutcome(prompt, output, cached, queue_s, prefill_s, decode_s)


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MAX_TOKENS


def _is_time(value: Any) -> TypeGuard[float]:
    return type(value) in (float, int) and 0 <= value <= MAX_S
