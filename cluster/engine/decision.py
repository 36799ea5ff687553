"""What the gateway decided about a request, read from its headers, and the headers that vLLM gets to see.

What must not live here: bodies (cluster/core/wire.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.core import wire
from cluster.engine.asgi import Headers

TOKEN_DIGITS_MAX = 9
"""A count of more digits is none; Python refuses to read thousands of them."""
DEADLINE_CHARACTERS_MAX = 32
_KEY = re.compile(r"(?:[0-9a-f]{2}){16,32}")
_INTEGER = re.compile(rf"-?[0-9]{{1,{TOKEN_DIGITS_MAX}}}")
_DROPPED = frozenset(
    name.encode()
    for name in wire.SERVE_CONTROL_HEADERS | wire.ENGINE_CONTROL_HEADERS | {"content-length", "transfer-encoding"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The gateway's word on one request; None where it said nothing, or nothing readable."""

    model: str | None = None
    """The engine's own name for it."""
    output_tokens: int | None = None
    grows_tokens: int | None = None
    """The output in all of a stream that may go on elsewhere."""
    priority: int | None = None
    """For vLLM's scheduler: lower is earlier."""
    cache_salt: str | None = None
    deadline_s: float | None = None
    """Seconds left; none are left at or below 0."""
    wants: frozenset[str] = frozenset()
    draws: bytes | None = None
    """What ids are derived from that the client gets; None: they are random."""
    resumes: bool = False
    """Whether the body tells what the client of a cut stream has."""


def read_decision(headers: Iterable[tuple[bytes, bytes]]) -> Decision:
    """The decision in a request's headers."""
    said = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in headers}
    output_tokens = _integer(said.get(wire.HEADER_OUTPUT_TOKENS))
    return Decision(
        model=said.get(wire.HEADER_MODEL),
        output_tokens=output_tokens if output_tokens is not None and output_tokens > 0 else None,
        grows_tokens=_integer(said.get(wire.HEADER_GROWS)),
        priority=_integer(said.get(wire.HEADER_PRIORITY)),
        cache_salt=said.get(wire.HEADER_CACHE_SALT) or None,
        deadline_s=_seconds(said.get(wire.HEADER_DEADLINE)),
        wants=frozenset(part.strip() for part in said.get(wire.HEADER_WANTS, "").split(",")) - {""},
        draws=_key(said.get(wire.HEADER_DRAWS)),
        resumes=said.get(wire.HEADER_RESUME) == "1",
    )


def engine_headers(headers: Iterable[tuple[bytes, bytes]], *, body_bytes: int, priority: int | None) -> Headers:
    """The headers for vLLM: nothing that steers Serve or the engine, but what was decided.

    Args:
        headers: as they came.
        body_bytes: the length of the body that vLLM gets.
        priority: for an API whose body has no field for it.
    """
    prefix = wire.INTERNAL_PREFIX.encode()
    kept = [
        (key, value) for key, value in headers if key.lower() not in _DROPPED and not key.lower().startswith(prefix)
    ]
    if priority is not None:
        kept.append((wire.HEADER_ENGINE_PRIORITY.encode(), str(priority).encode()))
    return [*kept, (b"content-length", str(body_bytes).encode())]


def _key(text: str | None) -> bytes | None:
    return bytes.fromhex(text) if text is not None and _KEY.fullmatch(text) else None


def _integer(text: str | None) -> int | None:
    return int(text) if text is not None and _INTEGER.fullmatch(text) else None


def _seconds(text: str | None) -> float | None:
    if text is None or len(text) > DEADLINE_CHARACTERS_MAX:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
