"""The whole comparison on one trace: how much the shared pools bear, and what everybody makes of parts of that.

What must not live here: tables, plots, files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from cluster.core.autoscaling import ServiceLevel
from cluster.simulator.baselines import Baseline
from cluster.simulator.cluster import GatewaySpec, ReplicaSpec
from cluster.simulator.report.prefill import ideal_prefill_tokens
from cluster.simulator.study.card import LONG_PREFILL_TOKENS
from cluster.simulator.study.compare import Runner, Standing, Verdict, choose, frontier, verdict
from cluster.simulator.study.search import layouts, pooled_systems, static_system
from cluster.simulator.study.stable import Maximum, stable_maximum
from cluster.simulator.study.system import System, shared_system
from cluster.simulator.study.work import works
from cluster.simulator.trace import Trace

POLICIES = ("balanced", "prefix")
PATIENCE_S = 600.0
"""`limits.queue_s` of our gateway: the baselines' lines have no end, so ours has nearly none, and waits compare."""
GOOD_MARGIN = 0.01
"""Of all requests: systems this near are equally good, but for what short prompts wait."""
SHARED = tuple(baseline for baseline in Baseline if baseline.is_shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is compared."""

    trace: Trace
    spec: ReplicaSpec
    """One card's replica."""
    gpus: int
    context_tokens: int
    """The longest context that is served."""
    loads: tuple[float, ...]
    """Rates, as parts of the best shared pool's stable maximum."""
    level: ServiceLevel = field(default_factory=ServiceLevel)
    policies: tuple[str, ...] = POLICIES
    baselines: tuple[Baseline, ...] = SHARED
    """Routers of the shared pools."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What everybody makes of one rate."""

    load: float
    """As a part of the best shared pool's stable maximum."""
    factor: float
    """As a multiple of the trace's own rate."""
    shared: tuple[Standing, ...]
    """One pool, under somebody else's router."""
    static: tuple[Standing, ...]
    """Pools with nothing but a boundary."""
    pools: tuple[Standing, ...]
    """Longreach."""

    @property
    def requests_per_s(self) -> float:
        """Requests a second that came."""
        return self.shared[0].figures.offered_per_s

    @property
    def reference(self) -> Standing:
        """The best of the shared: of those that serve nearly the most within the service level, the one that serves
        short prompts best.
        """
        most = max(standing.figures.every.good_ratio for standing in self.shared)
        near = [one for one in self.shared if one.figures.every.good_ratio >= most - GOOD_MARGIN]
        return min(near, key=lambda standing: standing.short_s)

    @property
    def chosen(self) -> Standing:
        """The best of Longreach's against it."""
        return choose(self.pools, self.reference)

    @property
    def verdict(self) -> Verdict:
        """Of the chosen against the reference."""
        return verdict(self.chosen, self.reference)

    @property
    def frontier(self) -> list[Standing]:
        """Of all of Longreach's."""
        return frontier(self.pools)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The answer."""

    question: Question
    maxima: Mapping[str, Maximum]
    """Of each shared pool, by name."""
    rates: tuple[Rate, ...]

    @property
    def best_shared(self) -> str:
        """Whose stable maximum is the largest."""
        return max(self.maxima, key=lambda name: self.maxima[name].factor)


def run_study(question: Question, *, told: Callable[[str], None]) -> Study:
    """Compare.

    Args:
        question: what.
        told: before every run, what it is about.

    Raises:
        ValueError: the trace is no load for so many cards, or a load is not above 0.
    """
    if min(question.loads) <= 0:
        raise ValueError(f"a load of {min(question.loads)} is not above 0")
    trace, spec = question.trace, question.spec
    doing = ""

    def say(what: str) -> None:
        nonlocal doing
        doing = what
        told(doing)

    runner = Runner(
        trace=trace,
        level=question.level,
        seed=question.seed,
        ideal_tokens=ideal_prefill_tokens(trace),
        ran=lambda: told(doing),
    )
    size = {"gpus": question.gpus, "context_tokens": question.context_tokens}
    fair = replace(spec, long_prefill_tokens=LONG_PREFILL_TOKENS)
    shared = [shared_system(baseline, fair, **size) for baseline in question.baselines]
    plain = [_as_it_comes(shared_system(baseline, spec, **size)) for baseline in question.baselines]
    ordered = works(trace, spec.cost, output_tokens=GatewaySpec().default_output_tokens)
    begin = question.gpus * trace.requests[-1].arrival_s / sum(work.seconds for work in ordered) / 2
    maxima = {}
    for system in shared:
        say(f"stable maximum of {system.name}")
        maxima[system.name] = stable_maximum(partial(_keeps_up, runner, system), low=begin)
    most = max(maximum.factor for maximum in maxima.values())
    gateway = GatewaySpec(queue_s=PATIENCE_S)
    clusters = list(layouts(ordered, spec, gpus=question.gpus, context_tokens=question.context_tokens, gateway=gateway))
    rates = []
    for load in question.loads:
        factor = load * most
        say(f"shared pools at {load:.0%}")
        by_shared = _all(runner, [*shared, *plain], factor)
        say(f"{len(clusters)} layouts at {load:.0%}")
        by_pools = _all(
            runner, [one for cluster in clusters for one in pooled_systems(cluster, question.policies)], factor
        )
        say(f"static pools at {load:.0%}")
        static = _all(runner, [static_system(cluster) for cluster in clusters if len(cluster.pools) == 2], factor)  # noqa: PLR2004
        rates.append(Rate(load=load, factor=factor, shared=by_shared, static=static, pools=by_pools))
    return Study(question=question, maxima=maxima, rates=tuple(rates))


def _as_it_comes(system: System) -> System:
    """The name of a shared pool whose engines give one long prompt all of a step, vLLM's default."""
    return replace(system, name=f"{system.name}, unbounded prefill")


def _all(runner: Runner, systems: Sequence[System], factor: float) -> tuple[Standing, ...]:
    return tuple(runner.standing(system, factor) for system in systems)


def _keeps_up(runner: Runner, system: System, factor: float) -> bool:
    return runner.standing(system, factor).stability.is_stable
