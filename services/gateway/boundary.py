"""The boundaries between pools that follow the traffic: what this gateway process has seen of it, and what is in force.

All processes tell each other, through the state store, what they have seen; whoever is first in a round decides for
all, and the others take it over. So they agree within a round, and while the store is away everything stays as it is.
What must not live here: the rule (cluster/core/boundary), routing by it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cluster.config import PoolSection
from cluster.core.autoscaling.demand import PoolSpeed
from cluster.core.autoscaling.pool_meter import PoolMeter
from cluster.core.autoscaling.target import ServiceLevel
from cluster.core.autoscaling.work import works_of
from cluster.core.boundary import (
    AdaptiveBoundary,
    BoundaryRecord,
    GatewaySeen,
    LivePool,
    PairSeen,
    decide_live,
    of_pair,
)
from cluster.core.boundary.record import ROUND_S
from cluster.core.lease import PoolName, ReplicaState
from cluster.core.outcome import ReplicaOutcome
from cluster.state.boundary import Heard
from services.gateway.catalog import Catalog
from services.gateway.directory import Directory
from services.gateway.following import follow_store
from services.gateway.outcome import Served

logger = logging.getLogger(__name__)
NOT_KNOWN = "not decided yet: the speed of the replicas is not known"


class BoundaryExchange(Protocol):
    """What is needed of the state store; cluster/state's BoundaryStore is one."""

    async def exchange(self, told: GatewaySeen, pools: Collection[PoolName]) -> Heard:
        """Tell what this process has seen, hear what others have, and whose turn it is."""
        ...

    async def put(self, records: Iterable[BoundaryRecord]) -> None:
        """Write what was decided."""
        ...


@dataclass(slots=True, kw_only=True)
class _Pair:
    smaller: PoolName
    larger: PoolName
    level: ServiceLevel
    beyond: ServiceLevel
    rule: AdaptiveBoundary
    tokens: int
    """In force here."""

    @property
    def limit_tokens(self) -> int:
        return self.rule.work.limit_tokens


class Boundaries:
    """Counts requests by length, and has the directory prefer what was decided.

    Args:
        store: where processes meet; None: nowhere, then nothing moves.
        gateway: this process's id.
        directory: knows the replicas, and routes by what it is told here.
        speeds: what somebody else has measured of a pool, for one whose replicas this process has not seen at work.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: BoundaryExchange | None,
        *,
        gateway: str,
        directory: Directory,
        speeds: Callable[[PoolName], PoolSpeed | None],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._directory = directory
        self._speeds = speeds
        self._clock = clock
        self._catalog: Catalog | None = None
        self._pairs: dict[str, tuple[_Pair, ...]] = {}
        """By model; none where boundaries are fixed."""
        self._meters: dict[PoolName, PoolMeter] = {}

    def ended(self, served: Served, told: ReplicaOutcome) -> None:
        """An answer has ended, and the engine has told what it was; on every request's path."""
        pairs = self._pairs.get(served.model_id)
        if pairs is None:
            return
        now_s = self._clock()
        need_tokens = served.choice.case.query.need.likely_total_tokens
        prefill_tokens = max(told.prompt_tokens - told.cached_tokens, 0)
        for pair in pairs:
            pair.rule.work.add(
                now_s, need_tokens=need_tokens, prefill_tokens=prefill_tokens, output_tokens=told.output_tokens
            )

    def use(self, catalog: Catalog) -> None:
        """Take over a configuration.

        A boundary stays where its two pools do, within the smaller one's limit. What was counted stays, too, unless
        that limit or a service level has changed.
        """
        self._catalog = catalog
        limits = {pool.name: pool.context_tokens for model in catalog.models for pool in self._directory.pools(model)}
        known = {(pair.smaller, pair.larger): pair for pair in self._all}
        self._pairs = {}
        for smaller, larger in catalog.config.boundaries:
            before = known.get((PoolName(smaller.name), PoolName(larger.name)))
            pair = _pair(smaller, larger, limits[PoolName(smaller.name)], before)
            self._pairs[smaller.model] = (*self._pairs.get(smaller.model, ()), pair)
        self._prefer()

    @property
    def tokens(self) -> Mapping[PoolName, int]:
        """Up to which length each pool is preferred whose boundary follows the traffic."""
        return {pair.smaller: pair.tokens for pair in self._all}

    async def follow(self) -> None:
        """One round after another, until cancelled."""
        if self._store is not None:
            await follow_store(self._step, what="boundaries", retry_s=ROUND_S)

    async def round(self) -> None:
        """Tell, hear, decide where it is this process's turn, and route by the outcome.

        Raises:
            redis.exceptions.RedisError: the store cannot be reached, and nothing has changed; so does OSError.
        """
        assert self._store is not None
        assert self._catalog is not None
        # Replicas that run with less than configured lower a limit.
        self.use(self._catalog)
        # A reload meanwhile makes new pairs, which have their first round next.
        pairs, now_s = self._all, self._clock()
        self._measure(pairs)
        heard = await self._store.exchange(self._seen(pairs, now_s), [pair.smaller for pair in pairs])
        reasons = dict[PoolName, str]()
        for pair in pairs:
            record = heard.records.get(pair.smaller)
            if record is not None and record.larger == pair.larger:
                pair.rule.resume(record.tokens, _moved_s(record, heard.now_s, now_s))
                reasons[pair.smaller] = record.reason
        if heard.is_turn:
            decided = [record for pair in pairs if (record := self._decide(pair, heard, now_s)) is not None]
            await self._store.put(decided)
            reasons |= {record.smaller: record.reason for record in decided}
        for pair in pairs:
            _tell(pair, reasons.get(pair.smaller, ""))
            pair.tokens = pair.rule.tokens
        self._prefer()

    @property
    def _all(self) -> list[_Pair]:
        return [pair for pairs in self._pairs.values() for pair in pairs]

    async def _step(self) -> None:
        if self._pairs:
            await self.round()
        await asyncio.sleep(ROUND_S)

    def _seen(self, pairs: Iterable[_Pair], now_s: float) -> GatewaySeen:
        seen = {
            pair.smaller: PairSeen(limit_tokens=pair.limit_tokens, seen=pair.rule.work.seen(now_s)) for pair in pairs
        }
        return GatewaySeen(gateway=self._gateway, pairs=seen)

    def _measure(self, pairs: Iterable[_Pair]) -> None:
        leases = [lease for lease in self._directory.leases().values() if lease.state is ReplicaState.READY]
        for pool in {name for pair in pairs for name in (pair.smaller, pair.larger)}:
            own = [lease for lease in leases if lease.pool == pool]
            max_running = max((lease.max_running for lease in own), default=0)
            meter = self._meters.setdefault(pool, PoolMeter())
            meter.measure(works_of(own), max_running=max_running)

    def _live(self, pool: PoolName) -> LivePool:
        leases = self._directory.leases().values()
        replicas = sum(lease.pool == pool and lease.state is ReplicaState.READY for lease in leases)
        return LivePool(replicas, self._meters[pool].speed or self._speeds(pool))

    def _decide(self, pair: _Pair, heard: Heard, now_s: float) -> BoundaryRecord | None:
        """None: this process cannot tell, and somebody else has."""
        others = of_pair(heard.others, pair.smaller, pair.limit_tokens)
        boundary = decide_live(pair.rule, now_s, self._live(pair.smaller), self._live(pair.larger), others)
        if boundary is None and pair.smaller in heard.records:
            return None
        moved_s = pair.rule.moved_s
        return BoundaryRecord(
            smaller=pair.smaller,
            larger=pair.larger,
            tokens=pair.rule.tokens,
            limit_tokens=pair.limit_tokens,
            reason=NOT_KNOWN if boundary is None else boundary.reason,
            written_s=heard.now_s,
            moved_s=None if math.isinf(moved_s) else heard.now_s - (now_s - moved_s),
        )

    def _prefer(self) -> None:
        self._directory.prefer({pair.smaller: pair.tokens for pair in self._all if pair.tokens < pair.limit_tokens})


def _pair(smaller: PoolSection, larger: PoolSection, limit_tokens: int, before: _Pair | None) -> _Pair:
    level, beyond = smaller.autoscaling.level, larger.autoscaling.level
    if before is not None and (before.limit_tokens, before.level, before.beyond) == (limit_tokens, level, beyond):
        return before
    rule = AdaptiveBoundary(limit_tokens=limit_tokens, level=level, beyond=beyond)
    if before is not None:
        rule.resume(before.tokens, before.rule.moved_s)
    return _Pair(
        smaller=PoolName(smaller.name),
        larger=PoolName(larger.name),
        level=level,
        beyond=beyond,
        rule=rule,
        tokens=rule.tokens,
    )


def _moved_s(record: BoundaryRecord, store_s: float, now_s: float) -> float:
    """On this process's clock."""
    return -math.inf if record.moved_s is None else now_s - max(store_s - record.moved_s, 0.0)


def _tell(pair: _Pair, reason: str) -> None:
    if pair.rule.tokens != pair.tokens:
        logger.info(
            "boundary moved",
            extra={
                "pool": pair.smaller,
                "larger": pair.larger,
                "tokens": pair.rule.tokens,
                "before": pair.tokens,
                "limit_tokens": pair.limit_tokens,
                "reason": reason,
            },
        )
