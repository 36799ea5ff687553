"""Azure's LLM inference traces of 2023: CSV with TIMESTAMP, ContextTokens and GeneratedTokens.

https://github.com/Azure/AzurePublicDataset, CC-BY-4.0; to be cited with Splitwise (Patel and others, ISCA 2024). They
do not say which prompts share a prefix. What must not live here: opening files (reader.py).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime

from cluster.core.errors import TraceError
from cluster.simulator.trace import TraceRequest
from cluster.simulator.traces.mooncake import TOKENS_MAX

HEAD = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MICROSECOND_CHARACTERS = len("2023-11-16 18:17:03.979960")
"""The files give a seventh digit, which Python's parser refuses."""
REMEDY = f"{','.join(HEAD)}, such as 2023-11-16 18:17:03.9799600,4808,10; tokens up to {TOKENS_MAX:,}"


def azure_requests(lines: Iterator[tuple[int, str]], origin: str) -> Iterator[TraceRequest]:
    """Requests in the order of the lines; `arrival_s` counts from the epoch.

    Raises:
        TraceError: a line has a mistake.
    """
    number, head = next(lines)
    if tuple(head.strip().split(",")) != HEAD:
        raise TraceError(origin, line=number, field="", problem="not the head line of a trace", remedy=REMEDY)
    for number, line in lines:
        row = next(csv.reader((line.strip(),)))
        if len(row) != len(HEAD):
            problem = f"has {len(row)} fields, not {len(HEAD)}"
            raise TraceError(origin, line=number, field="", problem=problem, remedy=REMEDY)
        yield TraceRequest(
            arrival_s=_time_s(row[0], origin, number),
            prompt_tokens=_tokens(row[1], HEAD[1], origin, number),
            output_tokens=_tokens(row[2], HEAD[2], origin, number),
        )


def _time_s(text: str, origin: str, line: int) -> float:
    try:
        return datetime.fromisoformat(text[:MICROSECOND_CHARACTERS]).replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise TraceError(
            origin, line=line, field=HEAD[0], problem=f"{text!r} is not a date and time", remedy=REMEDY
        ) from error


def _tokens(text: str, field: str, origin: str, line: int) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= TOKENS_MAX:
        problem = f"{text!r} is not a number from 1 to {TOKENS_MAX:,}"
        raise TraceError(origin, line=line, field=field, problem=problem, remedy=REMEDY)
    return int(text)
