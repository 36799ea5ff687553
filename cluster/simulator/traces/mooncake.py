"""Mooncake's traces: JSON Lines with timestamp (ms), input_length, output_length and hash_ids of 512-token blocks.

https://github.com/kvcache-ai/Mooncake, Apache-2.0. Equal ids at the head of two lists are an equal prefix; the last
block of a prompt may be shorter than the others. What must not live here: opening files (reader.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cluster.core.errors import TraceError
from cluster.simulator.trace import TraceRequest

BLOCK_TOKENS = 512
TOKENS_MAX = 10_000_000
"""Beyond any model's context: a number above it is a mistake, such as bytes in the place of tokens."""
REMEDY = (
    f"whole numbers: timestamp in ms; lengths in tokens up to {TOKENS_MAX:,}; one hash id a block of {BLOCK_TOKENS}"
)


def mooncake_requests(lines: Iterator[tuple[int, str]], origin: str) -> Iterator[TraceRequest]:
    """Requests in the order of the lines.

    Raises:
        TraceError: a line has a mistake.
    """
    for number, line in lines:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TraceError(origin, line=number, field="", problem=f"not JSON: {error}", remedy=REMEDY) from error
        if not isinstance(row, dict):
            raise TraceError(origin, line=number, field="", problem="not a JSON object", remedy=REMEDY)
        prompt_tokens = _number(row, "input_length", origin, number, least=1)
        yield TraceRequest(
            arrival_s=_number(row, "timestamp", origin, number, least=0, most=10**13) / 1000.0,
            prompt_tokens=prompt_tokens,
            output_tokens=max(1, _number(row, "output_length", origin, number, least=0)),
            blocks=_blocks(row, prompt_tokens, origin, number),
        )


def _number(row: Mapping[str, Any], field: str, origin: str, line: int, *, least: int, most: int = TOKENS_MAX) -> int:
    value = row.get(field)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        problem = f"is {value!r}, not a whole number" if field in row else "is missing"
        raise TraceError(origin, line=line, field=field, problem=problem, remedy=REMEDY)
    if not least <= value <= most:
        raise TraceError(
            origin, line=line, field=field, problem=f"{value:,} is not from {least:,} to {most:,}", remedy=REMEDY
        )
    return value


def _blocks(row: Mapping[str, Any], prompt_tokens: int, origin: str, line: int) -> tuple[int, ...]:
    ids = row.get("hash_ids", [])
    if not isinstance(ids, list) or not all(type(one) is int for one in ids):
        raise TraceError(origin, line=line, field="hash_ids", problem="is not a list of whole numbers", remedy=REMEDY)
    blocks = -(-prompt_tokens // BLOCK_TOKENS)
    if ids and len(ids) != blocks:
        raise TraceError(
            origin,
            line=line,
            field="hash_ids",
            problem=f"has {len(ids):,} ids; {prompt_tokens:,} tokens are {blocks:,} blocks",
            remedy=REMEDY,
        )
    return tuple(ids)
