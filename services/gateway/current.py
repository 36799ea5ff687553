"""The configuration in force, and how it changes while requests run.

What lives here: the one mutable holder of the catalog, reloading, and naming what a reload cannot change. What must
not: acting on signals (main.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from cluster.config import Config, load_config
from cluster.core.errors import ConfigError
from services.gateway.catalog import Catalog

logger = logging.getLogger(__name__)

T = TypeVar("T")

RESTART_FIELDS = (
    "cluster",
    "redis",
    "gateway.host",
    "gateway.port",
    "telemetry.log_format",
    "telemetry.traces",
    "telemetry.metrics",
)
"""Bound at start: addresses, connections, where spans go and the log's form."""
CLUSTER_FIELDS = (
    "tensor_parallel",
    "hosts",
    "accelerator",
    "worker_group",
    "replicas",
    "autoscaling",
    "engine",
    "revision",
)
"""Parts of a pool that live in its replicas: `longreach up` applies them, the gateway has no hand in them."""


class Current:
    """Holds the catalog that new requests see."""

    def __init__(self, catalog: Catalog, secret: Callable[[str], str | None]) -> None:
        self._catalog = catalog
        self._secret = secret

    @property
    def catalog(self) -> Catalog:
        """The catalog in force; a request takes it once and keeps it."""
        return self._catalog

    def reload(self, path: Path, prepare: Callable[[Config], T]) -> tuple[Catalog, T] | None:
        """Take the file's new content; None, with its mistakes in the log, where it is broken and nothing changed.

        Args:
            path: the configuration file.
            prepare: works out what else the new content needs, before it is in force: what this raises goes on, and
                nothing has changed.
        """
        try:
            config = load_config(path)
        except ConfigError as error:
            for line in error.lines():
                logger.error("configuration not reloaded: %s", line)  # noqa: TRY400 - the traceback says nothing more
            return None
        prepared = prepare(config)
        needs_restart = tuple(_needs_restart(self._catalog.config, config))
        needs_up = tuple(_needs_up(self._catalog.config, config))
        self._catalog = Catalog(config, self._secret)
        logger.info("configuration reloaded", extra={"models": len(config.models), "pools": len(config.pools)})
        if needs_restart:
            logger.warning("these take effect after a restart of the gateway: %s", ", ".join(needs_restart))
        if needs_up:
            logger.warning("these take effect after `longreach up`: %s", ", ".join(needs_up))
        return self._catalog, prepared


def _needs_restart(old: Config, new: Config) -> Iterator[str]:
    for field in RESTART_FIELDS:
        if _value(old, field) != _value(new, field):
            yield field


def _needs_up(old: Config, new: Config) -> Iterator[str]:
    before = {pool.name: pool for pool in old.pools}
    for pool in new.pools:
        was = before.get(pool.name)
        if pool.is_static:
            continue
        if was is None or was.is_static:
            yield f"pool {pool.name}"
            continue
        for field in ("model", "context_tokens", *CLUSTER_FIELDS):
            if getattr(was, field) != getattr(pool, field):
                yield f"pool {pool.name}.{field}"
    for model in new.models:
        known = next((other for other in old.models if other.id == model.id), None)
        if known is not None and not all(pool.is_static for pool in new.pools if pool.model == model.id):
            for field in ("source", "revision", "sampling", "lora", "tool_parser"):
                if getattr(known, field) != getattr(model, field):
                    yield f"model {model.id}.{field}"


def _value(config: Config, dotted: str) -> Any:
    value: Any = config
    for name in dotted.split("."):
        value = getattr(value, name)
    return value
