"""What clients may ask for, as one frozen picture of the configuration: names, pools, static endpoints.

A reload builds a new picture and swaps it whole, so a request sees one configuration from end to end. What must not
live here: who is alive (directory.py), files, the environment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.config import Config, ModelSection
from cluster.core.lease import PoolName, ReplicaId
from cluster.core.request import OutputPolicy
from cluster.core.routing import Share, shares_of


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticEndpoint:
    """A foreign engine from the configuration, ready to be called."""

    replica_id: ReplicaId
    pool: PoolName
    url: str
    """Base URL, without a trailing slash and without /v1."""
    model: str | None
    """The model's name there; None when it is the same as here."""
    api_key: str | None
    context_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPool:
    """A pool of one model, with the limit the operator gave it."""

    name: PoolName
    context_tokens: int
    is_static: bool
    shares: tuple[Share, ...]
    """How its requests are divided among revisions; empty: not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """A model with everything a request for it needs."""

    section: ModelSection
    policy: OutputPolicy
    pools: tuple[ServedPool, ...]
    sampling: dict[str, float]
    """Sampling values the configuration gives; replicas apply their own, foreign engines get them in the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a client's `model` stands for."""

    model: ServedModel
    engine_name: str
    """What the replica calls it: the model's id, or the adapter's name."""
    adapter: str | None = None
    """The LoRA adapter, where it is one."""


class Catalog:
    """The models, pools and static endpoints of one configuration."""

    def __init__(self, config: Config, secret: Callable[[str], str | None]) -> None:
        self.config = config
        self.models = tuple(_served_model(config, section) for section in config.models)
        self.statics = tuple(_static_endpoints(config, secret))
        served = [pool for pool in config.pools if not pool.is_static]
        self.from_zero = frozenset(PoolName(pool.name) for pool in served if pool.replicas.min == 0)
        """Pools that may have no replica, and get one when somebody asks."""
        self.autoscaled = tuple(PoolName(pool.name) for pool in served if pool.replicas.is_autoscaled)
        self.without_resume = frozenset(PoolName(pool.name) for pool in served if not pool.resume)
        """Pools whose streams end where they are cut."""
        self._statics_by_id = {endpoint.replica_id: endpoint for endpoint in self.statics}
        self._names = {name: resolved for model in self.models for name, resolved in _names(model)}

    def resolve(self, name: str) -> Resolved | None:
        """What `name` stands for: a model's id, an alias or an adapter; None when it is unknown."""
        return self._names.get(name)

    def static(self, replica_id: ReplicaId) -> StaticEndpoint | None:
        """The static endpoint with this id; None for a replica with a lease."""
        return self._statics_by_id.get(replica_id)

    def names(self) -> tuple[str, ...]:
        """Every name a client may ask for, in the order of the file."""
        return tuple(self._names)

    def revisions(self) -> frozenset[str]:
        """Every revision that the configuration names."""
        named = (name for pool in self.config.pools for name in (pool.revision, *pool.traffic))
        return frozenset(name for name in named if name)

    def missing_keys(self) -> tuple[str, ...]:
        """Names of environment variables that should hold an API key and are not set."""
        keyed = {
            endpoint.api_key_env
            for pool in self.config.pools
            for index, endpoint in enumerate(pool.endpoints)
            if endpoint.api_key_env and self._statics_by_id[_static_id(pool.name, index)].api_key is None
        }
        return tuple(sorted(name for name in keyed if name))


def _names(model: ServedModel) -> Iterator[tuple[str, Resolved]]:
    section = model.section
    for name in (section.id, *section.aliases):
        yield name, Resolved(model=model, engine_name=section.id)
    for adapter in section.lora:
        yield adapter.name, Resolved(model=model, engine_name=adapter.name, adapter=adapter.name)


def _served_model(config: Config, section: ModelSection) -> ServedModel:
    return ServedModel(
        section=section,
        policy=OutputPolicy(
            default_tokens=section.output.default_tokens,
            max_tokens=section.output.max_tokens,
            grows=section.output.grows,
        ),
        pools=tuple(
            ServedPool(
                name=PoolName(pool.name),
                context_tokens=pool.context_tokens,
                is_static=pool.is_static,
                shares=shares_of(pool.traffic),
            )
            for pool in config.pools
            if pool.model == section.id
        ),
        sampling=section.sampling.model_dump(exclude_none=True),
    )


def _static_endpoints(config: Config, secret: Callable[[str], str | None]) -> Iterator[StaticEndpoint]:
    for pool in config.pools:
        for index, endpoint in enumerate(pool.endpoints):
            yield StaticEndpoint(
                replica_id=_static_id(pool.name, index),
                pool=PoolName(pool.name),
                url=endpoint.url.rstrip("/").removesuffix("/v1"),
                model=endpoint.model,
                api_key=secret(endpoint.api_key_env) if endpoint.api_key_env else None,
                context_tokens=pool.context_tokens,
            )


def _static_id(pool: str, index: int) -> ReplicaId:
    """Static endpoints have no id of their own, and their addresses are not for clients to read."""
    return ReplicaId(f"{pool}-static-{index}")
