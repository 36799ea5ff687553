"""Reads the objects of a release, by the labels the chart puts on everything.

A right that is missing takes a part of the answer away, with the reason in its place; only RayServices and pods are
needed. What must not live here: what they mean (join.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.config import Config, parse_config
from cluster.core.errors import ConfigError
from cluster.kubernetes.api import ClusterApi
from cluster.kubernetes.faults import AbsentError, DeniedError
from cluster.kubernetes.resources import CONFIG_MAPS, EVENTS, PODS, RAY_SERVICES

INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
CONFIG_KEY = "config.yaml"
WARNINGS = "type=Warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseObjects:
    """What was read; `missing` is what could not be, and why."""

    release: str
    namespace: str
    services: Sequence[Mapping[str, Any]]
    pods: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    config: Config | None
    missing: tuple[str, ...]


def read_release(api: ClusterApi, release: str, *, with_events: bool = True) -> ReleaseObjects:
    """Everything of a release.

    Args:
        api: of its cluster, in its namespace.
        release: its name.
        with_events: whether recent warnings are wanted.

    Raises:
        SetupError: RayServices or pods cannot be read.
    """
    labels = f"{INSTANCE_LABEL}={release}"
    missing: list[str] = []
    try:
        services = api.read(RAY_SERVICES, namespace=api.namespace, labels=labels)
    except AbsentError as absent:
        services = []
        missing.append(f"RayServices: {absent.problem}; `longreach k8s doctor` says how to get them")
    pods = api.read(PODS, namespace=api.namespace, labels=labels)
    events: list[dict[str, Any]] = []
    try:
        if with_events:
            events = api.read(EVENTS, namespace=api.namespace, fields=WARNINGS)
    except DeniedError as denied:
        missing.append(f"events: {denied.problem}: {denied.remedy}")
    config = _config(api, labels, missing)
    return ReleaseObjects(
        release=release,
        namespace=api.namespace,
        services=services,
        pods=pods,
        events=events,
        config=config,
        missing=tuple(missing),
    )


def _config(api: ClusterApi, labels: str, missing: list[str]) -> Config | None:
    try:
        maps = api.read(CONFIG_MAPS, namespace=api.namespace, labels=labels)
    except DeniedError as denied:
        missing.append(f"pools: {denied.problem}: {denied.remedy}")
        return None
    text = next((found["data"][CONFIG_KEY] for found in maps if CONFIG_KEY in (found.get("data") or {})), None)
    if text is None:
        missing.append(f"pools: no ConfigMap with the label {labels} holds {CONFIG_KEY}")
        return None
    try:
        return parse_config(text, origin=CONFIG_KEY)
    except ConfigError as error:
        missing.append(f"pools: {error.lines()[0]} (is this program older than the release?)")
        return None
