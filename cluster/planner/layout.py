"""Which pools serve a load within a service level at the least cost, and where their boundaries are.

Every choice of boundaries is tried, with every shape that holds a pool's longest request. What must not live here: the
number of replicas of one pool (cluster/core/capacity/level.py), tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import log

from cluster.core.autoscaling import ServiceLevel
from cluster.core.capacity.level import KV_MAX, Sufficient, Unreachable, replicas_for
from cluster.core.capacity.load import OfferedLoad
from cluster.planner.shapes import NODE_CARDS, Shape

BOUNDARIES = (4_096, 8_192, 16_384, 32_768, 65_536, 131_072)
"""Between two pools: powers of two are near enough, for cost is flat around the best."""
BOUNDARIES_MAX = 2
"""Three pools at most; more divide the load into parts that no longer fill a replica."""
SHAPES_MAX = 4
"""Kept of each pool, the cheapest: with a limited supply the cheapest may be taken."""
NEAR_COST_RATIO = 1.02
"""Layouts that cost at most so much more than the cheapest are as good: the model is not that exact. Of them the one
is taken whose short requests wait least."""
LATE_SHARE = 0.01
POOL_NAMES = {1: ("all",), 2: ("short", "long"), 3: ("short", "middle", "long")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Cards of one kind in one machine."""

    gpu: str
    cards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPool:
    """One pool, sized for its part of the load."""

    name: str
    over_tokens: int
    """Requests up to here go to the next shorter pool."""
    context_tokens: int
    shape: Shape
    max_running: int
    load: OfferedLoad | None
    """None: nothing of the workload is so long; one replica keeps the promise."""
    found: Sufficient | None

    @property
    def replicas(self) -> int:
        """That meet the service level."""
        return self.found.replicas if self.found is not None else 1

    @property
    def cards(self) -> int:
        """All together."""
        return self.replicas * self.shape.ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Pools that serve everything together."""

    pools: tuple[PlannedPool, ...]
    weight: float
    """What it costs an hour; without prices, the memory of its cards in GiB."""
    missing: Mapping[str, int]
    """Cards of each kind that there are not."""

    @property
    def missing_cards(self) -> int:
        """All of those."""
        return sum(self.missing.values())

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Between the pools."""
        return tuple(pool.context_tokens for pool in self.pools[:-1])

    @property
    def short_wait_s(self) -> float:
        """The longest that 99% of the shortest pool's requests wait for their turn."""
        found = self.pools[0].found
        if found is None or found.outcome.waiting.share <= LATE_SHARE:
            return 0.0
        return found.outcome.waiting.mean_s * log(found.outcome.waiting.share / LATE_SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layouts:
    """All that serve the load, best first; where there are none, why."""

    found: tuple[Layout, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched."""

    shapes: Sequence[Shape]
    load: OfferedLoad
    level: ServiceLevel
    context_tokens: int
    """The longest that is served."""
    weights: Mapping[str, float]
    """Of one card of each kind."""
    nodes: Sequence[Node] | None
    """What there is; None: as much as is needed."""


def find_layouts(search: Search) -> Layouts:
    """The layouts, best first: those the cards suffice for, then the cheapest, and near it the shortest wait."""
    pools = _PoolFinder(search)
    found: list[Layout] = []
    inner = [one for one in BOUNDARIES if one < search.context_tokens]
    for count in range(BOUNDARIES_MAX + 1):
        for boundaries in combinations(inner, count):
            found += pools.layouts((*boundaries, search.context_tokens))
    if not found:
        return Layouts(found=(), refused=pools.refused)
    least = min(layout.missing_cards for layout in found)
    kept = sorted((one for one in found if one.missing_cards == least), key=lambda layout: layout.weight)
    near = [layout for layout in kept if layout.weight <= kept[0].weight * NEAR_COST_RATIO]
    best = min(near, key=lambda layout: (layout.short_wait_s, layout.weight, len(layout.pools)))
    ordered: dict[tuple[int, ...], Layout] = {best.boundaries: best}
    for layout in kept:
        ordered.setdefault(layout.boundaries, layout)
    return Layouts(found=tuple(ordered.values()), refused=pools.refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """A shape that could be a pool's."""

    shape: Shape
    max_running: int
    load: OfferedLoad | None
    found: Sufficient | None

    def weight(self, weights: Mapping[str, float]) -> float:
        replicas = self.found.replicas if self.found is not None else 1
        return replicas * self.shape.ranks * weights[self.shape.gpu.name]


class _PoolFinder:
    """Pools for a part of the lengths; the same parts occur in many layouts."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._refused: dict[tuple[str, int], tuple[int, str]] = {}
        self._known: dict[tuple[int, int], list[_Choice]] = {}

    @property
    def refused(self) -> tuple[str, ...]:
        """Why shapes serve no pool."""
        return tuple(
            f"{ranks} x {gpu} with requests up to {limit:,} tokens: {why}"
            for (gpu, ranks), (limit, why) in self._refused.items()
        )

    def layouts(self, limits: tuple[int, ...]) -> Iterator[Layout]:
        """The layout with these limits: of the cheapest shapes, those there are cards for."""
        search = self._search
        names = POOL_NAMES[len(limits)]
        choices = [self._choices(over, limit) for over, limit in zip((0, *limits), limits, strict=False)]
        best: Layout | None = None
        for chosen in product(*choices):
            pools = tuple(
                PlannedPool(
                    name=name,
                    over_tokens=over,
                    context_tokens=limit,
                    shape=choice.shape,
                    max_running=choice.max_running,
                    load=choice.load,
                    found=choice.found,
                )
                for name, over, limit, choice in zip(names, (0, *limits), limits, chosen, strict=False)
            )
            layout = Layout(
                pools=pools,
                weight=sum(pool.cards * search.weights[pool.shape.gpu.name] for pool in pools),
                missing=_missing(pools, search.nodes),
            )
            if best is None or (layout.missing_cards, layout.weight) < (best.missing_cards, best.weight):
                best = layout
        if best is not None:
            yield best

    def _choices(self, over: int, limit: int) -> list[_Choice]:
        if (over, limit) not in self._known:
            load = self._search.load.between(over, limit)
            is_last = limit == self._search.context_tokens
            found = [] if load is None and not is_last else list(self._sized(load, limit))
            weights = self._search.weights
            found.sort(key=lambda choice: choice.weight(weights))
            self._known[over, limit] = found[:SHAPES_MAX]
        return self._known[over, limit]

    def _sized(self, load: OfferedLoad | None, limit: int) -> Iterator[_Choice]:
        for shape in self._search.shapes:
            if shape.context_tokens < limit:
                continue
            if load is None:
                yield _Choice(shape=shape, max_running=shape.running(limit, 1.0), load=None, found=None)
                continue
            running = shape.running(load.held_tokens, KV_MAX)
            found = replicas_for(load, shape.spec(running), self._search.level)
            if isinstance(found, Unreachable):
                # Of each shape the shortest pool that it fails: longer ones it fails the more.
                known = self._refused.get((shape.gpu.name, shape.ranks), (limit, found.why))
                self._refused[shape.gpu.name, shape.ranks] = min(known, (limit, found.why))
            else:
                yield _Choice(shape=shape, max_running=running, load=load, found=found)


def _missing(pools: Sequence[PlannedPool], nodes: Sequence[Node] | None) -> dict[str, int]:
    """Cards that pools want and no node has free; replicas with most cards are placed first."""
    if nodes is None:
        return {}
    kinds = [node.gpu for node in nodes]
    free = [node.cards for node in nodes]
    missing: dict[str, int] = {}
    for pool in sorted(pools, key=lambda pool: -pool.shape.ranks):
        name, ranks, left = pool.shape.gpu.name, pool.shape.ranks, pool.replicas
        for place, kind in enumerate(kinds):
            if kind == name:
                taken = min(left, free[place] // ranks)
                free[place] -= taken * ranks
                left -= taken
        if left:
            missing[name] = missing.get(name, 0) + left * ranks
    return missing


def most_ranks(gpu: str, nodes: Sequence[Node] | None) -> int:
    """Cards of the largest node of a kind."""
    if nodes is None:
        return NODE_CARDS
    return max((node.cards for node in nodes if node.gpu == gpu), default=0)
