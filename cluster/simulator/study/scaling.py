"""What autoscaling saves: GPU hours for the service level, by pools that the production policy sizes, by one shared
pool of a fixed size, and by the same shared pool under Ray Serve's request counts.

Nobody is given a number of cards: each family is run with several settings, and families are compared by the fewest GPU
hours that reach a share of good requests. What must not live here: tables, plots, files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import pairwise

from cluster.core.autoscaling import ServiceLevel
from cluster.simulator.baselines import Baseline, RequestCountScaler
from cluster.simulator.cluster import ClusterSpec, GatewaySpec, ReplicaSpec
from cluster.simulator.outcome import Size
from cluster.simulator.report.metrics import Figures, figures_of
from cluster.simulator.report.prefill import ideal_prefill_tokens
from cluster.simulator.study.card import LONG_PREFILL_TOKENS
from cluster.simulator.study.search import tuned
from cluster.simulator.study.study import PATIENCE_S
from cluster.simulator.study.system import System, pooled_cluster, scaled, shared_system
from cluster.simulator.study.work import Work, boundary, works
from cluster.simulator.trace import Trace

ONGOING_REQUESTS = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Targets tried for Ray Serve's policy: its default, and more, until the service is lost."""
SHARES = (0.1, 0.2, 0.35, 0.5)
"""Of the work, those that the smaller of two pools is given; pools scale, so no share is too small or too large."""
SERVED_MIN_RATIO = 0.9
"""A family's settings are tried, the dearest first, until fewer requests than this are good."""
LEVELS = (0.95, 0.99)
"""Shares of good requests at which families are compared: what the policy promises, and what is usually wanted."""
SAVING_WANTED = 0.25
"""The target: of the GPU hours of the best shared pool, at the same service level."""


class Family(StrEnum):
    """Who decides how many cards there are."""

    STATIC = "shared, static"
    COUNTS = "shared, request counts"
    LONGREACH = "Longreach"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingQuestion:
    """What is compared."""

    trace: Trace
    spec: ReplicaSpec
    """One card's replica."""
    gpus: int
    """The most cards of a pool."""
    context_tokens: int
    """The longest context that is served."""
    startup_s: float
    """From the order of a replica to its first request."""
    baseline: Baseline = Baseline.EXACT_PREFIX
    """The shared pool's router."""
    policy: str = "balanced"
    """Longreach's."""
    level: ServiceLevel = field(default_factory=ServiceLevel)
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """What one setting made of the trace."""

    name: str
    family: Family
    figures: Figures
    ups: int
    """Decisions for more replicas."""
    downs: int
    fewest: int
    """Cards at once, those that start included."""
    most: int
    sizes: tuple[Size, ...]
    ended_s: float

    @property
    def good_ratio(self) -> float:
        """Of all requests, those within the service level."""
        return self.figures.every.good_ratio

    @property
    def gpu_hours(self) -> float:
        """From each replica's order to its end, start-up included."""
        return self.figures.gpu_hours


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The answer."""

    question: ScalingQuestion
    contenders: tuple[Contender, ...]

    def cheapest(self, family: Family, good_ratio: float) -> Contender | None:
        """The fewest GPU hours of a family with so many good requests; None: it has none with so many."""
        enough = (one for one in self.contenders if one.family is family and one.good_ratio >= good_ratio)
        return min(enough, key=lambda one: one.gpu_hours, default=None)

    def saved_ratio(self, good_ratio: float, *, against: Family) -> float | None:
        """Of the GPU hours of another family, those that Longreach does without; None: one of them falls short."""
        ours, theirs = self.cheapest(Family.LONGREACH, good_ratio), self.cheapest(against, good_ratio)
        return None if ours is None or theirs is None else 1.0 - ours.gpu_hours / theirs.gpu_hours


def run_scaling(question: ScalingQuestion, *, told: Callable[[str], None]) -> Scaling:
    """Compare.

    Args:
        question: what.
        told: before every run, what it is about.
    """
    run = partial(_run, question, ideal_prefill_tokens(question.trace), told)
    static = list(_until_lost(run, Family.STATIC, _fixed(question)))
    enough = [size for size, one in zip(_sizes(question), static, strict=False) if one.good_ratio >= max(LEVELS)]
    begin = min(enough, default=question.gpus)
    counted = list(_until_lost(run, Family.COUNTS, _counting(question, begin)))
    ours = [run(Family.LONGREACH, system) for system in longreach_systems(question, begin)]
    return Scaling(question=question, contenders=(*static, *counted, *ours))


def longreach_systems(question: ScalingQuestion, begin: int) -> Iterator[System]:
    """One pool, and two with the boundary at several shares of the work, all under the production policies.

    Args:
        question: what is compared.
        begin: cards at the beginning, divided by work; each pool has one.
    """
    output_tokens = GatewaySpec().default_output_tokens
    ordered = works(question.trace, question.spec.cost, output_tokens=output_tokens)
    layouts: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((question.context_tokens,), (begin,))]
    limits: set[int] = set()
    for share in SHARES:
        limit = boundary(ordered, share)
        if limit < question.context_tokens and limit not in limits:
            limits.add(limit)
            small = min(max(round(share * begin), 1), max(begin - 1, 1))
            layouts.append(((limit, question.context_tokens), (small, max(begin - small, 1))))
    for pools, replicas in layouts:
        yield System(name=_limits_name(pools), cluster=_longreach(question, ordered, pools, replicas))


def _longreach(
    question: ScalingQuestion, ordered: Sequence[Work], limits: Sequence[int], replicas: Sequence[int]
) -> ClusterSpec:
    gateway = GatewaySpec(queue_s=PATIENCE_S, policy=question.policy)
    cluster = tuned(pooled_cluster(question.spec, limits, replicas, gateway=gateway), ordered)
    return scaled(cluster, most=question.gpus, level=question.level, startup_s=question.startup_s)


def _limits_name(limits: Sequence[int]) -> str:
    names = [f"{limit / 1024:g}k" for limit in limits]
    return f"pools to {' and '.join(names)}" if len(names) > 1 else f"one pool to {names[0]}"


def _shared(question: ScalingQuestion, gpus: int) -> System:
    """With the bound on long prompts' share of a step that every shared pool is better with (study.py)."""
    spec = replace(question.spec, long_prefill_tokens=LONG_PREFILL_TOKENS)
    return shared_system(question.baseline, spec, gpus=gpus, context_tokens=question.context_tokens)


def _sizes(question: ScalingQuestion) -> range:
    return range(question.gpus, 0, -1)


def _fixed(question: ScalingQuestion) -> Iterator[System]:
    for gpus in _sizes(question):
        yield replace(_shared(question, gpus), name=f"{gpus} cards")


def _counting(question: ScalingQuestion, begin: int) -> Iterator[System]:
    for ongoing in ONGOING_REQUESTS:
        plain = _shared(question, begin)
        yield replace(
            plain,
            name=f"{ongoing:g} requests a card",
            cluster=scaled(plain.cluster, most=question.gpus, level=question.level, startup_s=question.startup_s),
            scaler=partial(RequestCountScaler, ongoing_requests=ongoing),
        )


def _until_lost(
    run: Callable[[Family, System], Contender], family: Family, systems: Iterable[System]
) -> Iterator[Contender]:
    for system in systems:
        found = run(family, system)
        yield found
        if found.good_ratio < SERVED_MIN_RATIO:
            return


def _run(
    question: ScalingQuestion, ideal_tokens: int, told: Callable[[str], None], family: Family, system: System
) -> Contender:
    told(f"{family}: {system.name}")
    result = system.run(question.trace, seed=question.seed)
    figures = figures_of(result, question.trace, level=question.level, ideal_tokens=ideal_tokens)
    cards = [count for _, count in cards_over_time(result.sizes)]
    changes = [decision.replicas - decision.current for decision in result.decisions]
    return Contender(
        name=system.name,
        family=family,
        figures=figures,
        ups=sum(change > 0 for change in changes),
        downs=sum(change < 0 for change in changes),
        fewest=min(cards),
        most=max(cards),
        sizes=result.sizes,
        ended_s=result.ended_s,
    )


def cards_over_time(sizes: Sequence[Size]) -> list[tuple[float, int]]:
    """When there are how many cards in all pools together, those that start included; a moment's last word counts."""
    now: dict[str, int] = {}
    found: list[tuple[float, int]] = []
    for size, following in pairwise((*sizes, None)):
        assert size is not None
        now[size.pool] = size.ready + size.starting
        if following is None or following.at_s > size.at_s:
            found.append((size.at_s, sum(now.values())))
    return found
