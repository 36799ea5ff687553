"""What the sections of the chart's values share.

What must not live here: any section.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from cluster.config import Section

Raw = dict[str, Any]
"""A piece of a Kubernetes object, as Kubernetes has it."""
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?$")]
KubernetesName = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$")]
"""Of an object; empty: none."""
Port = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[str, Field(pattern=r"^([0-9]+(ms|s|m|h))+$")]


class Resources(Section):
    """What a container asks for and what it may take."""

    requests: dict[str, str | int | float] = Field(default_factory=dict)
    limits: dict[str, str | int | float] = Field(default_factory=dict)


class Scheduling(Section):
    """Where pods may run."""

    nodeSelector: dict[str, str] = Field(default_factory=dict, description="Labels a node must have")
    tolerations: list[Raw] = Field(default_factory=list, description="Taints that its pods accept")
    affinity: Raw = Field(default_factory=dict, description="Affinity, as Kubernetes has it")
    priorityClassName: KubernetesName = Field(default="", description="Priority class of its pods")


class Extras(Section):
    """What an operator adds to pods."""

    podAnnotations: dict[str, str] = Field(default_factory=dict, description="Further annotations of its pods")
    podLabels: dict[str, str] = Field(default_factory=dict, description="Further labels of its pods")
    extraVolumes: list[Raw] = Field(default_factory=list, description="Further volumes of its pods")
    extraVolumeMounts: list[Raw] = Field(default_factory=list, description="Further mounts of its container")
