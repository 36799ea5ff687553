"""Ids that are the same at the replica that goes on: derived from what the gateway drew for the request.

Both replicas make the same events of the same outputs (going_on.py), so they draw in the same order, and a count is
enough. What must not live here: vLLM (drawing.py).
"""

from __future__ import annotations

import hashlib

ID_BYTES = 8
"""As vLLM's: sixteen hexadecimal digits."""


class Draws:
    """What is drawn for one request."""

    def __init__(self, key: bytes) -> None:
        """Begin.

        Args:
            key: drawn by the gateway for this request alone, which makes its ids unique; up to 64 bytes.
        """
        self._key = key
        self._count = 0

    def digits(self) -> str:
        """The next hexadecimal digits."""
        return self._next().hex()

    def characters(self, alphabet: str, count: int) -> list[str]:
        """The next characters, up to ten of an alphabet of 62: more bits than that are not drawn at once."""
        number = int.from_bytes(self._next(), "big")
        found = []
        for _ in range(count):
            number, at = divmod(number, len(alphabet))
            found.append(alphabet[at])
        return found

    def _next(self) -> bytes:
        self._count += 1
        return hashlib.blake2b(self._count.to_bytes(8, "big"), key=self._key, digest_size=ID_BYTES).digest()
