"""Every fault the suite knows, by name.

What must not live here: how they are made (the modules beside).
"""

from __future__ import annotations

from loadtest.chaos.fault import Fault
from loadtest.chaos.faults import changes, clients, gateways, machine, network, replicas, stores

FAULTS: tuple[Fault, ...] = (
    *replicas.FAULTS,
    *network.FAULTS,
    *gateways.FAULTS,
    *stores.FAULTS,
    *changes.FAULTS,
    *clients.FAULTS,
    *machine.FAULTS,
)
