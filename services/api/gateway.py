"""What the APIs need of the gateway, in one explicit object.

What must not live here: building the parts (services/gateway/assembly.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cluster.core.lease import PoolName
from services.gateway.access import Access
from services.gateway.access_log import AccessLog
from services.gateway.answers import Answers
from services.gateway.boundary import Boundaries
from services.gateway.current import Current
from services.gateway.directory import Directory, EndpointState
from services.gateway.dispatch import Dispatcher
from services.gateway.metrics import Metrics
from services.gateway.residency import Residency
from services.gateway.scaling import Scaling
from services.gateway.usage import Usage
from services.gateway.waiting import WaitingRoom
from services.tracing.tracing import Tracing


@dataclass(slots=True, kw_only=True)
class Gateway:
    """The parts of a running gateway, and the little state that requests share."""

    current: Current
    access: Access
    directory: Directory
    residency: Residency
    room: WaitingRoom
    scaling: Scaling
    boundaries: Boundaries
    dispatcher: Dispatcher
    answers: Answers
    metrics: Metrics
    access_log: AccessLog
    usage: Usage | None
    """None where there is no folder to keep it in."""
    tracing: Tracing | None
    """None where traces go nowhere."""
    clock: Callable[[], float]
    """Monotonic seconds."""
    name: str
    """What this process is called among all gateways."""
    credential: str | None = None
    """The cluster's secret, which replicas know and clients do not."""
    in_flight: int = 0
    """Requests being served, bounded by limits.concurrent_requests."""
    is_draining: bool = False

    def is_ready(self, states: Mapping[PoolName, Mapping[EndpointState, int]] | None = None) -> bool:
        """Whether requests can be served: an endpoint neither drains nor fails, or a pool starts one when asked.

        A gateway that is leaving is never ready.

        Args:
            states: `Directory.states`, where the caller has them already.
        """
        found = self.directory.states(self.current.catalog) if states is None else states
        if self.is_draining:
            return False
        # Without them no balancer would send the request that makes a pool start.
        return bool(self.current.catalog.from_zero) or any(counts[EndpointState.READY] for counts in found.values())

    def takes_part(self, states: Mapping[PoolName, Mapping[EndpointState, int]] | None = None) -> bool:
        """Whether this gateway is as good as any other, even where no replica is: it knows who is there, and stays.

        Args:
            states: as for `is_ready`.
        """
        return not self.is_draining and (self.directory.is_informed or self.is_ready(states))

    def drain(self) -> None:
        """From now on /ready says that this gateway is leaving."""
        self.is_draining = True
