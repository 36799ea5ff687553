"""What `longreach autoscale` looks at and changes, in the state store of a cluster that runs here or is named.

What must not live here: tables (cluster/cli/autoscale_view.py), deciding.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from cluster.config import Config, PoolSection, load_config
from cluster.core.autoscaling.record import AutoscaleRecord, PastDecision
from cluster.core.boundary import BoundaryRecord
from cluster.core.errors import SetupError
from cluster.core.lease import PoolName
from cluster.deployment import load_deployment
from cluster.environment import Environment
from cluster.local.rundir import RunDir
from cluster.local.state_view import PoolScaling, read_scaling
from cluster.state.autoscale import AutoscaleStore
from cluster.state.boundary import BoundaryStore
from cluster.state.leases import connect
from cluster.state.login import state_address

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolExplained:
    """One pool's autoscaling."""

    pool: str
    min_replicas: int
    max_replicas: int
    is_autoscaled: bool
    """Whether its number follows the load: `replicas.max` is over `replicas.min`."""
    pinned: int | None
    held: int
    oldest_wait_s: float
    record: AutoscaleRecord | None
    """The latest decision with its inputs; None where nobody has decided within a day."""
    age_s: float | None
    """Since then."""
    past: tuple[PastDecision, ...]
    """Decisions that changed something, the latest first."""
    boundary_follows: bool = False
    """Whether the boundary above it follows the traffic (`gateway.routing.boundary`)."""
    boundary: BoundaryRecord | None = None
    """That boundary; None where it follows nothing, or no gateway has decided within a day."""
    boundary_age_s: float | None = None
    """Since it was decided."""


class _Kept(NamedTuple):
    """What the store holds of some pools."""

    scaling: dict[PoolName, PoolScaling]
    pasts: list[tuple[PastDecision, ...]]
    boundaries: dict[PoolName, BoundaryRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    """The pools of one cluster, and where their scaling is kept."""

    config: Config
    state_url: str = field(repr=False)
    """With the login."""

    def served(self, pool: str | None) -> list[PoolSection]:
        """The pools that run replicas, or the one that is named.

        Raises:
            SetupError: there is no such pool.
        """
        sections = [section for section in self.config.pools if not section.is_static]
        if pool is None:
            return sections
        found = [section for section in sections if section.name == pool]
        if not found:
            known = ", ".join(section.name for section in sections) or "none"
            raise SetupError(f"no pool {pool!r} runs replicas: there are {known}", "name one of them")
        return found

    def explain(self, pool: str | None = None, *, past_max: int) -> list[PoolExplained]:
        """Each pool's inputs, forecast, decision and last decisions.

        Raises:
            SetupError: there is no such pool, or the store cannot be read.
        """
        sections = self.served(pool)
        names = [PoolName(section.name) for section in sections]

        follow = {PoolName(smaller.name) for smaller, _ in self.config.boundaries}

        async def read(redis: Redis) -> _Kept:
            cluster = self.config.cluster.name
            store = AutoscaleStore(redis, cluster)
            return _Kept(
                await read_scaling(redis, cluster, names),
                # To Redis, a range that ends at -1 is all of it.
                [await store.past(name, past_max) if past_max else () for name in names],
                await BoundaryStore(redis, cluster).records([name for name in names if name in follow]),
            )

        scaling, pasts, boundaries = self._with(read)
        now_s = time.time()
        return [
            PoolExplained(
                pool=section.name,
                min_replicas=section.replicas.min,
                max_replicas=section.replicas.max,
                is_autoscaled=section.replicas.is_autoscaled,
                pinned=scaling[name].pinned,
                held=scaling[name].held,
                oldest_wait_s=scaling[name].oldest_wait_s,
                record=(record := scaling[name].record),
                age_s=None if record is None else max(now_s - record.written_s, 0.0),
                past=past,
                boundary_follows=name in follow,
                boundary=(boundary := boundaries.get(name)),
                boundary_age_s=None if boundary is None else max(now_s - boundary.written_s, 0.0),
            )
            for section, name, past in zip(sections, names, pasts, strict=True)
        ]

    def pin(self, pool: str, replicas: int | None) -> None:
        """Have so many replicas of a pool whatever the load; None: as many as the load wants.

        Raises:
            SetupError: there is no such pool, its number does not follow the load, or is bounded otherwise.
        """
        (section,) = self.served(pool)
        bounds = section.replicas
        if replicas is not None and not bounds.is_autoscaled:
            raise SetupError(
                f"pool {pool} has {bounds.min} replicas by its configuration, whatever the load",
                "set its replicas.max over its replicas.min, then `longreach up`",
            )
        if replicas is not None and not bounds.min <= replicas <= bounds.max:
            raise SetupError(
                f"pool {pool} may have {bounds.min} to {bounds.max} replicas, not {replicas}",
                "pin a number within them, or change its replicas.min and replicas.max",
            )
        cluster = self.config.cluster.name
        self._with(lambda redis: AutoscaleStore(redis, cluster).pin(PoolName(pool), replicas))

    def _with(self, act: Callable[[Redis], Awaitable[T]]) -> T:
        async def run() -> T:
            redis = connect(self.state_url)
            try:
                return await act(redis)
            finally:
                await redis.aclose()

        try:
            return asyncio.run(run())
        except (RedisError, OSError) as error:
            why = str(error) or type(error).__name__
            raise SetupError(f"the state store does not answer: {why}", "longreach status") from error


def find_autoscaling(run_dir: RunDir, config_path: Path | None, environment: Environment) -> Autoscaling:
    """The autoscaling of the cluster at `run_dir`, or of the one that a configuration describes.

    Raises:
        ConfigError: the configuration has mistakes.
        SetupError: no cluster runs here and none is named, or it has no state store.
    """
    path = run_dir.config if run_dir.config.exists() else config_path
    if path is None:
        raise SetupError("no cluster runs here", "longreach up, or name a configuration with --config")
    config = load_config(path)
    own = load_deployment(run_dir.deployment).state_url if run_dir.deployment.exists() else None
    url = state_address(config.redis, environment.secret, own=own)
    if url is None:
        raise SetupError(
            f"cluster {config.cluster.name} has no state store now, and pools scale by what is in it",
            "longreach up, or set redis.state_url",
        )
    return Autoscaling(config=config, state_url=url)


def as_json(pools: Collection[PoolExplained]) -> list[dict[str, object]]:
    """For `--json`."""
    return [
        {
            "pool": each.pool,
            "min_replicas": each.min_replicas,
            "max_replicas": each.max_replicas,
            "is_autoscaled": each.is_autoscaled,
            "pinned": each.pinned,
            "held": each.held,
            "oldest_wait_s": each.oldest_wait_s,
            "age_s": each.age_s,
            "latest": None if each.record is None else each.record.to_dict(),
            "past": [past.to_dict() for past in each.past],
            "boundary_follows": each.boundary_follows,
            "boundary": None if each.boundary is None else each.boundary.to_dict(),
            "boundary_age_s": each.boundary_age_s,
        }
        for each in pools
    ]
