"""Which pools a set of cards runs: every kind by what it holds, and the longest context where it fits best.

This is the planner's hook: free of I/O, and the same for a live cluster and for cards one thinks of buying. What must
not live here: prices, traffic (the planner's), names, YAML (cluster/kubernetes/values.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.core.capacity.replica import (
    CONTEXTS_HELD,
    GIB,
    ModelNeed,
    context_limit,
    kv_room_bytes,
    kv_tokens,
    running_limit,
)

SHORT_TOKENS = 32_768
"""Limit of the short pool where every card could hold more: most chats fit, and a replica decodes many of them."""
LONG_SHARE = 0.25
"""Of the cards that could serve either, the part that serves the longest contexts. A quarter: long prompts are few and
heavy; pools scale on their own from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSupply:
    """Cards of one kind."""

    kind: str
    memory_bytes: int
    cards_by_node: tuple[int, ...]
    """Free on each node; a replica never spans nodes."""
    spans: bool = True
    """Whether several of a node can serve one replica together; MIG slices cannot."""

    @property
    def most_ranks(self) -> int:
        """Cards that the largest replica could have."""
        most = max(self.cards_by_node, default=0)
        return most if self.spans else min(most, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedPool:
    """Replicas of one shape on one kind of card."""

    kind: str
    context_tokens: int
    tensor_parallel: int
    replicas: int
    """As many as there is room for."""
    kv_tokens: int
    """Tokens whose KV one replica holds."""
    is_long: bool
    """Whether it takes the longest contexts of the plan."""
    shorter_tokens: int = 0
    """Limit of the next shorter pool; 0 where there is none."""

    @property
    def full_contexts(self) -> float:
        """Requests of the pool's full length that one replica holds at once."""
        return self.kv_tokens / self.context_tokens

    @property
    def max_running(self) -> int:
        """Requests that one replica should run at once."""
        return running_limit(
            held_tokens=self.kv_tokens, context_tokens=self.context_tokens, shorter_tokens=self.shorter_tokens
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TooSmall:
    """Why a kind of card runs nothing."""

    kind: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """The pools, shortest context first; none where nothing fits."""

    pools: tuple[SizedPool, ...]
    left_out: tuple[TooSmall, ...]
    wanted_tokens: int

    @property
    def reached_tokens(self) -> int:
        """The longest context that is served."""
        return max((pool.context_tokens for pool in self.pools), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """A replica of so many ranks on a kind of card."""

    supply: CardSupply
    ranks: int
    limit: int
    held: int

    def fits(self) -> int:
        return sum(cards // self.ranks for cards in self.supply.cards_by_node)


def size_pools(
    model: ModelNeed, supplies: Sequence[CardSupply], *, memory_ratio: float, wanted_tokens: int | None = None
) -> Sizing:
    """Pools for these cards.

    Every kind serves with as few cards a replica as hold the model at all. The longest context goes to the shape that
    reaches it with the least memory; where none does, to the one that comes nearest, and `reached_tokens` says so.

    Args:
        model: what is served.
        supplies: the cards.
        memory_ratio: share of a card the engine may take.
        wanted_tokens: longest context that is asked for; None is the model's own.
    """
    wanted = min(wanted_tokens or model.context_tokens, model.context_tokens)
    shapes = {supply.kind: _shapes(model, supply, memory_ratio) for supply in supplies}
    left_out = tuple(
        TooSmall(kind=supply.kind, why=_why(model, supply, memory_ratio))
        for supply in supplies
        if not shapes[supply.kind]
    )
    every = [shape for found in shapes.values() for shape in found]
    if not every:
        return Sizing(pools=(), left_out=left_out, wanted_tokens=wanted)
    long = min(every, key=lambda shape: _preference(shape, wanted))
    reach = min(wanted, long.limit)
    smallest = [found[0] for found in shapes.values() if found]
    has_cheap = any(shape.limit < reach for shape in smallest)
    pools: list[SizedPool] = []
    for shape in smallest:
        if shape.supply.kind == long.supply.kind and shape.ranks < long.ranks:
            pools += _beside(shape, long, reach)
        elif shape.limit >= reach and not has_cheap:
            pools += _split(shape, reach)
        else:
            pools.append(_pool(shape, min(shape.limit, reach), shape.fits(), is_long=shape.limit >= reach))
    pools.sort(key=lambda pool: (pool.context_tokens, pool.kind))
    limits = {pool.context_tokens for pool in pools}
    ranked = tuple(
        replace(pool, shorter_tokens=max((limit for limit in limits if limit < pool.context_tokens), default=0))
        for pool in pools
    )
    return Sizing(pools=ranked, left_out=left_out, wanted_tokens=wanted)


def _shapes(model: ModelNeed, supply: CardSupply, memory_ratio: float) -> list[_Shape]:
    """Every shape that holds a context worth a pool, fewest ranks first."""
    found = []
    for ranks in model.ranks(supply.most_ranks):
        size = {"card_bytes": supply.memory_bytes, "ranks": ranks}
        limit = context_limit(model, **size, memory_ratio=memory_ratio)
        shape = _Shape(
            supply=supply, ranks=ranks, limit=limit, held=kv_tokens(model, **size, memory_ratio=memory_ratio)
        )
        if limit and shape.fits():
            found.append(shape)
    return found


def _preference(shape: _Shape, wanted: int) -> tuple[int, int, str]:
    """Shapes that reach what is wanted by the memory they bind; then the others by how near they come."""
    missing = max(0, wanted - shape.limit)
    return missing, shape.ranks * shape.supply.memory_bytes, shape.supply.kind


def _beside(short: _Shape, long: _Shape, reach: int) -> list[SizedPool]:
    """A kind whose cards serve alone, and together the longest contexts."""
    nodes = list(short.supply.cards_by_node)
    target = max(1, int(sum(nodes) * LONG_SHARE) // long.ranks)
    replicas = 0
    for index, cards in sorted(enumerate(nodes), key=lambda entry: -entry[1]):
        taken = min(target - replicas, cards // long.ranks)
        nodes[index] = cards - taken * long.ranks
        replicas += taken
    left = sum(cards // short.ranks for cards in nodes)
    pools = [_pool(long, reach, replicas, is_long=True)]
    return pools if not left else [_pool(short, short.limit, left, is_long=False), *pools]


def _split(shape: _Shape, reach: int) -> list[SizedPool]:
    """A kind that could serve every length: some replicas for the longest, so that these block nobody else."""
    replicas = shape.fits()
    long = max(1, int(replicas * LONG_SHARE))
    if replicas == long or reach <= 2 * SHORT_TOKENS:
        return [_pool(shape, reach, replicas, is_long=True)]
    return [
        _pool(shape, SHORT_TOKENS, replicas - long, is_long=False),
        _pool(shape, reach, long, is_long=True),
    ]


def _pool(shape: _Shape, context_tokens: int, replicas: int, *, is_long: bool) -> SizedPool:
    return SizedPool(
        kind=shape.supply.kind,
        context_tokens=context_tokens,
        tensor_parallel=shape.ranks,
        replicas=replicas,
        kv_tokens=shape.held,
        is_long=is_long,
    )


def _why(model: ModelNeed, supply: CardSupply, memory_ratio: float) -> str:
    if not supply.most_ranks:
        return "no card of this kind is free on a node with the CPU and memory for it"
    ranks = model.ranks(supply.most_ranks)[-1]
    room = kv_room_bytes(model, card_bytes=supply.memory_bytes, ranks=ranks, memory_ratio=memory_ratio)
    held = kv_tokens(model, card_bytes=supply.memory_bytes, ranks=ranks, memory_ratio=memory_ratio)
    return (
        f"{ranks} x {supply.memory_bytes / GIB:.1f} GiB at {memory_ratio:g}, {model.weights_bytes / GIB:.1f} GiB of "
        f"weights: {room / GIB:.1f} GiB are left on a card for KV cache, which is {held:,} tokens and a context of "
        f"{int(held / CONTEXTS_HELD):,}"
    )
