"""What Prometheus needs to watch replicas: a list of them, and each one's own metrics.

A replica listens on a port that Ray Serve chose and answers only who shows the cluster's secret, so Prometheus can
neither find it nor ask it (docs/decisions/0021). What must not live here: routes (services/rest/admin.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from cluster.core.lease import Lease, ReplicaId
from cluster.core.wire import HEADER_CREDENTIAL
from services.gateway.pages import Page, fetch
from services.gateway.upstream import HttpUpstream, UpstreamFailure
from services.http1.client import FailureKind

SCRAPE_S = 8.0
"""Less than the 10 s that Prometheus waits by default: what failed is then told, not guessed."""
PAGE_BYTES_MAX = 4 * 2**20
"""A replica tells some 100 KB; 40 times that leaves room for many adapters, and bounds what a broken one can cost."""
SCRAPES_MAX = 32
"""At once, so at most 128 MiB. Prometheus spreads its scrapes over the interval: more at once means that replicas
hang."""
METRICS_PATH = "/metrics"
OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class NotScraped:
    """A replica's metrics cannot be had now."""

    status: int
    """HTTP's, for who asked."""
    message: str


class Scrapes:
    """The replicas of this gateway's directory, as Prometheus wants them.

    Args:
        leases: of every live replica, as last read.
        upstream: whose connections are used; each scrape has one of its own.
        credential: the cluster's secret.
    """

    def __init__(
        self, leases: Callable[[], Mapping[ReplicaId, Lease]], upstream: HttpUpstream, *, credential: str | None
    ) -> None:
        self._leases = leases
        self._upstream = upstream
        self._headers = {} if credential is None else {HEADER_CREDENTIAL: credential}
        self._running = 0

    def targets(self, host: str) -> list[dict[str, Any]]:
        """Every replica in the form of Prometheus's HTTP service discovery.

        Args:
            host: this gateway's address as the asker knows it. Any gateway of the cluster can serve any replica, so a
                name that stands for all of them is best.
        """
        return [
            {
                "targets": [host],
                "labels": {
                    "__metrics_path__": path_of(lease.replica_id),
                    "pool": str(lease.pool),
                    "replica": str(lease.replica_id),
                    "model": lease.model,
                    # Else all have the gateway's address, and look alike.
                    "instance": str(lease.replica_id),
                },
            }
            for lease in sorted(self._leases().values(), key=lambda lease: (lease.pool, lease.replica_id))
        ]

    async def scrape(self, replica_id: ReplicaId) -> Page | NotScraped:
        """One replica's own metrics, as it told them."""
        lease = self._leases().get(replica_id)
        if lease is None:
            return NotScraped(status=404, message="no such replica holds a lease")
        if self._running >= SCRAPES_MAX:
            return NotScraped(status=503, message=f"{SCRAPES_MAX} replicas are being asked already: do they hang?")
        self._running += 1
        try:
            page = await fetch(
                self._upstream, lease.url, METRICS_PATH, self._headers, timeout_s=SCRAPE_S, bytes_max=PAGE_BYTES_MAX
            )
        finally:
            self._running -= 1
        if isinstance(page, UpstreamFailure):
            status = 504 if page.kind is FailureKind.TIMEOUT else 502
            return NotScraped(status=status, message=f"the replica failed: {page.detail}")
        if page.status != OK:
            # Never its own words: they are for its gateways.
            return NotScraped(status=502, message=f"the replica answered with status {page.status}")
        return page


def path_of(replica_id: ReplicaId) -> str:
    """Where the admin listener serves this replica's metrics."""
    return f"/replicas/{quote(replica_id, safe='')}/metrics"
