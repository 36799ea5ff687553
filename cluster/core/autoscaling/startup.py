"""How long a replica takes from its order to its lease, as seen by who orders.

That is longer than its own start: a node may have to come first, and an image to it. What must not live here: clocks,
the store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from statistics import median

from cluster.core.lease import ReplicaId

KEPT = 5
"""Starts that count: the median of five bears two odd ones, such as those that waited for a new node."""


class StartupClock:
    """Orders and the replicas that came of them, of one pool.

    Args:
        startup_s: what is known from earlier; None: nothing.
    """

    def __init__(self, startup_s: float | None = None) -> None:
        self._orders_s: deque[float] = deque()
        self._known: frozenset[ReplicaId] | None = None
        self._took_s: deque[float] = deque(() if startup_s is None else (startup_s,), maxlen=KEPT)

    @property
    def startup_s(self) -> float | None:
        """The median of the last starts; None while there was none."""
        return median(self._took_s) if self._took_s else None

    @property
    def oldest_order_s(self) -> float | None:
        """When the first of the replicas that are on their way was ordered; None: there are none."""
        return self._orders_s[0] if self._orders_s else None

    def ordered(self, before: int, after: int, now_s: float) -> None:
        """The number of replicas that there are to be has changed."""
        self._orders_s.extend([now_s] * (after - before))
        for _ in range(min(before - after, len(self._orders_s))):
            self._orders_s.pop()

    def seen(self, ready: Collection[ReplicaId], now_s: float) -> None:
        """These replicas take requests now.

        A new one answers the oldest order. One that nobody ordered replaces another, which Serve sees to itself.
        """
        replicas = frozenset(ready)
        new = () if self._known is None else replicas - self._known
        self._known = replicas if self._known is None else self._known | replicas
        for _ in new:
            if not self._orders_s:
                return
            self._took_s.append(now_s - self._orders_s.popleft())

    def settle(self, missing: int) -> None:
        """So many replicas are still to come: more orders than that are answered or taken back."""
        while len(self._orders_s) > missing:
            self._orders_s.popleft()
