"""Requests with an `Idempotency-Key`: which ones are the same, what is kept of their answers, and within which bounds.

The header and its errors are those of draft-ietf-httpapi-idempotency-key-header. A *slot* is where one tenant's key is
kept. It holds a claim while a gateway worker makes the answer, and then the answer. What must not live here: Redis
(cluster/state/answers.py), who runs and who joins (services/api/repeats.py).
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, NewType, TypeVar

from cluster.core.request import Route
from cluster.core.tenant import TenantName

Slot = NewType("Slot", str)
V = TypeVar("V")

KEY_CHARS_MAX = 255
"""What Stripe takes; a UUID has 36."""
FINGERPRINT_BYTES = 16
_CLAIM = b"C"
_ANSWER = b"A"
_HEAD_BYTES = len(_CLAIM) + FINGERPRINT_BYTES
_COMPRESSION = 1
"""zlib's fastest: the events of a stream repeat each other, so even it leaves a tenth or less."""
ENTRY_BYTES = 512
"""What an answer takes in a store beside its own bytes: the slot's name, the server's own records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadKey:
    """The header cannot be a key."""

    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Some worker makes the answer now."""

    fingerprint: bytes
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """An answer that has ended, as its engine gave it."""

    fingerprint: bytes
    status: int
    is_static: bool
    """From a foreign engine: it tells no outcome beside its answer."""
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one worker may keep."""

    answers: int
    total_bytes: int


def read_key(given: str) -> str | BadKey:
    """The key in a header's value; the draft's quotes around it may be left out, and do not count."""
    key = given.strip()
    if len(key) > 1 and key.startswith('"') and key.endswith('"'):
        key = key[1:-1]
    if not 1 <= len(key) <= KEY_CHARS_MAX:
        return BadKey(problem=f"must have 1 to {KEY_CHARS_MAX} characters (given: {len(key)})")
    if not (key.isascii() and key.isprintable()):
        return BadKey(problem="must be printable ASCII")
    return key


def slot_of(tenant: TenantName, key: str) -> Slot:
    """Where a tenant's key is kept: no two tenants share one."""
    return Slot(f"{tenant}:{hashlib.sha256(key.encode()).hexdigest()[:32]}")


def fingerprint_of(route: Route, body: bytes) -> bytes:
    """What makes two requests the same: the route and the body's bytes."""
    return hashlib.sha256(b"%b\0%b" % (route.value.encode(), body)).digest()[:FINGERPRINT_BYTES]


def encode_claim(claim: Claim) -> bytes:
    """A claim as a store has it."""
    return _CLAIM + claim.fingerprint + claim.owner.encode()


def encode_answer(answer: KeptAnswer) -> bytes:
    """An answer as a store has it; of a large one this takes some milliseconds a megabyte."""
    head = {"status": answer.status, "is_static": answer.is_static, "headers": dict(answer.headers)}
    packed = zlib.compress(json.dumps(head).encode() + b"\n" + answer.body, _COMPRESSION)
    return _ANSWER + answer.fingerprint + packed


def decode(record: bytes) -> Claim | KeptAnswer | None:
    """What a store has; None: it is damaged, or another version's."""
    fingerprint, rest = record[len(_CLAIM) : _HEAD_BYTES], record[_HEAD_BYTES:]
    if len(fingerprint) < FINGERPRINT_BYTES:
        return None
    try:
        if record.startswith(_CLAIM):
            return Claim(fingerprint=fingerprint, owner=rest.decode())
        if record.startswith(_ANSWER):
            head, _, body = zlib.decompress(rest).partition(b"\n")
            return KeptAnswer(fingerprint=fingerprint, body=body, **json.loads(head))
    except (ValueError, TypeError, zlib.error):
        pass
    return None


class Shelf(Generic[V]):
    """Values by slot within a count, bytes and a time; where there is no room, the oldest go first."""

    def __init__(self) -> None:
        self._held: OrderedDict[Slot, tuple[V, int, float]] = OrderedDict()
        self.total_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, slot: Slot, now_s: float) -> V | None:
        """What a slot holds; None where that is nothing, or its time is over."""
        found = self._held.get(slot)
        return None if found is None or found[2] <= now_s else found[0]

    def put(self, slot: Slot, value: V, size_bytes: int, *, until_s: float, now_s: float, room: Room) -> list[Slot]:
        """Keep a value.

        Args:
            slot: where.
            value: what.
            size_bytes: of it, without `ENTRY_BYTES`.
            until_s: how long.
            now_s: on the same clock.
            room: the most that is kept, this included.

        Returns:
            The slots that had to go before their time; among them this one, where it alone is too large.
        """
        self.drop(slot)
        self._held[slot] = (value, size_bytes + ENTRY_BYTES, until_s)
        self.total_bytes += size_bytes + ENTRY_BYTES
        gone = []
        while self._held and (
            self._first_until_s() <= now_s or len(self._held) > room.answers or self.total_bytes > room.total_bytes
        ):
            oldest = next(iter(self._held))
            if self._first_until_s() > now_s:
                gone.append(oldest)
            self.drop(oldest)
        return gone

    def drop(self, slot: Slot) -> None:
        """Keep nothing there."""
        found = self._held.pop(slot, None)
        if found is not None:
            self.total_bytes -= found[1]

    def _first_until_s(self) -> float:
        return next(iter(self._held.values()))[2]
