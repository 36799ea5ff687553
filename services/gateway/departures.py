"""What a replica owes when its lease runs out: a replica that does not answer any more owes nothing, so it is cut off.

A dead process breaks its connections, and of a dead machine the kernel finds out (services/http1/silence.py). A frozen
replica is neither: its kernel goes on answering for it. Its lease runs out, and that is told here. A lease alone is no
proof, since the store may have lost it, so the replica itself is asked. What must not live here: what becomes of the
answers that are broken off (resuming.py, attempts.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from cluster.core.lease import Lease, ReplicaId
from services.gateway.upstream import HttpUpstream, UpstreamFailure

logger = logging.getLogger(__name__)

ANSWER_S = 6.0
"""With the lease's own time about as long as a silent machine has. A replica that tokenizes a million tokens is deaf
for seconds, and lives."""
PATH = "/health"
"""Any status is a sign of life."""


class Departures:
    """Looks after replicas whose lease is gone."""

    def __init__(self, upstream: HttpUpstream, *, leases: Callable[[], Mapping[ReplicaId, Lease]]) -> None:
        """Prepare.

        Args:
            upstream: has the connections.
            leases: those that are alive now.
        """
        self._upstream = upstream
        self._leases = leases
        self._tasks: set[asyncio.Task[None]] = set()
        """At most one a replica that went within the last `ANSWER_S`."""

    def gone(self, lease: Lease) -> None:
        """This lease is no more."""
        task = asyncio.get_running_loop().create_task(self._look(lease))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, lease: Lease) -> None:
        answer = await self._upstream.get(lease.url, PATH, {}, ANSWER_S)
        if not isinstance(answer, UpstreamFailure):
            answer.close()
            return
        if any(other.url == lease.url for other in self._leases().values()):
            return  # its lease is back, or another replica has its port by now
        count = self._upstream.cut(lease.url, "its lease is gone, and it does not answer")
        if count:
            logger.warning("replica cut off", extra={"replica": lease.replica_id, "answers": count})
