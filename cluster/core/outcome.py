"""What a replica reports of one answer: what it cost, exactly.

What lives here: the record, and its one form on the wire. What must not: headers and comment lines (wire.py), adding
up (usage).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

MAX_TOKENS = 2**53
"""Beyond what any engine counts and JSON readers keep exactly; a larger number is a broken report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaOutcome:
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
    return json.dumps(asdict(outcome), separators=(",", ":"))


def decode_outcome(text: str | bytes) -> ReplicaOutcome | None:
    """Read what `encode_outcome` wrote; None where it is anything else. Unknown fields are ignored."""
    try:
        data = json.loads(text)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    known = {name: data[name] for name in _FIELDS if name in data}
    if not {"prompt_tokens", "output_tokens"} <= known.keys() or not all(map(_is_number, known.values())):
        return None
    tokens = {name: value for name, value in known.items() if name.endswith("_tokens")}
    if not all(isinstance(value, int) and value <= MAX_TOKENS for value in tokens.values()):
        return None
    return ReplicaOutcome(**known)


_FIELDS = tuple(field.name for field in fields(ReplicaOutcome))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
