"""What the REST surface needs of the gateway, in one explicit object.

What must not live here: building the parts (services/gateway/main.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from services.gateway.current import Current
from services.gateway.directory import Directory
from services.gateway.dispatch import Dispatcher
from services.gateway.metrics import Metrics


@dataclass(slots=True, kw_only=True)
class Gateway:
    """The parts of a running gateway, and the little state that requests share."""

    current: Current
    directory: Directory
    dispatcher: Dispatcher
    metrics: Metrics
    in_flight: int = 0
    """Requests being served, bounded by limits.concurrent_requests."""
    is_draining: bool = False

    def drain(self) -> None:
        """From now on /ready says that this gateway is leaving."""
        self.is_draining = True
