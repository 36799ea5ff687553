"""What a trace is: requests in the order in which they come.

What must not live here: reading files (a reader for each format), making requests up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class TraceRequest(NamedTuple):
    """One request. A tuple: a million of them are held at once."""

    arrival_s: float
    """Since the trace's begin."""
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    """What its prompt consists of, in blocks of `Trace.block_tokens`: equal numbers at the head are an equal prefix."""
    session: int | None = None
    """Requests of one conversation have one number; None: not known."""
    tenant: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests by arrival."""

    name: str
    block_tokens: int
    requests: Sequence[TraceRequest]
