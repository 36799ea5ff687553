"""Reads the inventory's nodes and pods.

What must not live here: what they mean (nodes.py).
"""

from __future__ import annotations

from typing import Any

from cluster.kubernetes.api import ClusterApi
from cluster.kubernetes.faults import DeniedError
from cluster.kubernetes.inventory import Inventory
from cluster.kubernetes.nodes import inventory_of
from cluster.kubernetes.resources import NODES, PODS
from cluster.kubernetes.usage import used_by_node

ALIVE = "status.phase!=Succeeded,status.phase!=Failed"
"""Pods that hold something of their node; the server leaves the others out."""


def read_inventory(api: ClusterApi) -> tuple[Inventory, list[dict[str, Any]]]:
    """What the cluster's nodes have, and have free; and the nodes as the API gives them.

    Raises:
        SetupError: nodes cannot be read; that pods cannot is a note in the answer.
    """
    nodes = api.read(NODES)
    try:
        return inventory_of(nodes, api.reduce(PODS, used_by_node, fields=ALIVE)), nodes
    except DeniedError as denied:
        blind = inventory_of(nodes, None, blind_because=f"{denied.problem}: {denied.remedy}")
    return blind, nodes
