"""A consistent-hash ring: which endpoint a session belongs to, the same in every gateway without shared state.

What must not live here: whether an endpoint can be used now (the caller passes over those that cannot).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from cluster.core.lease import ReplicaId

POINTS_PER_ENDPOINT = 32
"""Virtual nodes: the share of sessions an endpoint gets then varies by about 1/sqrt(32), 18%; load corrects it."""
WALK_POINTS_MAX = 64
"""Points looked at for one session: about two endpoints' worth. Where all of those are out, affinity is not worth
a longer search."""
_POINT_BYTES = 8
SESSION_BITS = 8 * _POINT_BYTES
_POINTS_PER_DIGEST = 8
_POINT_MASK = 2**SESSION_BITS - 1


def session_hash(*parts: str) -> int:
    """A session's point on the ring, from what names it (tenant and session, say); equal in every process."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_POINT_BYTES).digest(), "big")


class Ring:
    """Endpoints on a circle of 2**64 points; joining or leaving moves only the sessions of that endpoint."""

    __slots__ = ("_ids", "_points")

    def __init__(self) -> None:
        self._points: list[tuple[int, ReplicaId]] = []
        self._ids: set[ReplicaId] = set()

    def __contains__(self, replica_id: ReplicaId) -> bool:
        return replica_id in self._ids

    def add(self, replica_id: ReplicaId) -> None:
        """Put an endpoint on the ring; nothing changes when it is there."""
        if replica_id not in self._ids:
            self._ids.add(replica_id)
            for point in _points(replica_id):
                insort(self._points, point)

    def fill(self, replica_ids: Iterable[ReplicaId]) -> None:
        """Put many on the ring: one sort, where `add` moves the whole list for each point."""
        for replica_id in replica_ids:
            if replica_id not in self._ids:
                self._ids.add(replica_id)
                self._points += _points(replica_id)
        self._points.sort()

    def discard(self, replica_id: ReplicaId) -> None:
        """Take an endpoint off the ring; nothing changes when it is not there."""
        if replica_id in self._ids:
            self._ids.remove(replica_id)
            for point in _points(replica_id):
                del self._points[bisect_left(self._points, point)]

    def walk(self, session: int) -> Iterator[ReplicaId]:
        """The endpoints from `session` onwards, its home first; some may come more than once."""
        points = self._points
        start = bisect_left(points, (session & _POINT_MASK, ReplicaId("")))
        for step in range(min(len(points), WALK_POINTS_MAX)):
            yield points[(start + step) % len(points)][1]


def _points(replica_id: ReplicaId) -> Iterator[tuple[int, ReplicaId]]:
    for index in range(POINTS_PER_ENDPOINT // _POINTS_PER_DIGEST):
        digest = blake2b(f"{index}:{replica_id}".encode()).digest()
        for start in range(0, len(digest), _POINT_BYTES):
            yield int.from_bytes(digest[start : start + _POINT_BYTES], "big"), replica_id
