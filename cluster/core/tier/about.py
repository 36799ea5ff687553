"""What a fingerprint stands for, as replicas leave it in Redis beside the blocks, and people read it.

What must not live here: Redis, what a fingerprint is made of (cluster/engine/tier/fingerprint.py).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

RECORD_BYTES_MAX = 4_096
"""A record is a few names and numbers; anything longer is none of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierAbout:
    """One model's blocks under one fingerprint."""

    model: str
    """The id clients use."""
    pool: str
    """Of the replica that wrote this last."""
    dtype: str
    tensor_parallel: int
    block_tokens: int
    payload_bytes: int
    """Of one block, over all ranks."""

    def encode(self) -> bytes:
        """As a value in Redis."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """From a value in Redis, which is data that anybody may have written.

        Raises:
            ValueError: it is not what `encode` makes.
        """
        if len(text) > RECORD_BYTES_MAX:
            raise ValueError(f"a record of {len(text)} bytes")
        try:
            made = cls(**json.loads(text))
        except (TypeError, RecursionError) as error:
            raise ValueError(f"not a record: {error}") from error
        names = (made.model, made.pool, made.dtype)
        numbers = (made.tensor_parallel, made.block_tokens, made.payload_bytes)
        if not all(isinstance(name, str) for name in names):
            raise ValueError("a name that is no text")
        if not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError("a number that is none, or not over 0")
        return made
