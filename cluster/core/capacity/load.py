"""What a number of equal replicas makes of a stream of requests: load, batch, time to first token, time between tokens.

A mean-value model of an engine with chunked prefill: prefill takes its share of the engine's time, what is left decodes
everything that runs, one token a step. It knows no order of single requests, no preemption, no moment: for those there
is the simulator. What must not live here: waiting (waiting.py), where costs come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from cluster.core.capacity.step import StepCost, prefill_pairs
from cluster.core.capacity.waiting import Waiting, waiting


class RequestClass(NamedTuple):
    """Requests of one size."""

    prompt_tokens: int
    output_tokens: int
    share: float
    """Of all requests; the classes of an `OfferedLoad` sum up to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedLoad:
    """Requests that come."""

    requests_per_s: float
    classes: tuple[RequestClass, ...]
    arrival_cv2: float = 1.0
    """Variance of the time between two arrivals over its mean squared; 1 is Poisson, more comes in bursts."""
    cached_ratio: float = 0.0
    """Of each prompt, what is in the KV cache already."""

    @property
    def prompt_tokens(self) -> float:
        """The mean."""
        return sum(one.prompt_tokens * one.share for one in self.classes)

    @property
    def output_tokens(self) -> float:
        """The mean."""
        return sum(one.output_tokens * one.share for one in self.classes)

    @property
    def held_tokens(self) -> float:
        """Mean context of a sequence at a moment it decodes: long answers are met more often."""
        total = sum(one.output_tokens * one.share for one in self.classes)
        if not total:
            return 0.0
        return (
            sum((one.prompt_tokens + one.output_tokens / 2) * one.output_tokens * one.share for one in self.classes)
            / total
        )

    def between(self, over_tokens: int, up_to_tokens: int) -> OfferedLoad | None:
        """The part whose prompt and output together are over the one and at most the other; None where nothing is."""
        kept = [one for one in self.classes if over_tokens < one.prompt_tokens + one.output_tokens <= up_to_tokens]
        share = sum(one.share for one in kept)
        if not share:
            return None
        return OfferedLoad(
            requests_per_s=self.requests_per_s * share,
            classes=tuple(one._replace(share=one.share / share) for one in kept),
            # A thinned renewal process: what is kept at random nears Poisson (D. R. Cox, "Renewal Theory", 1962).
            arrival_cv2=share * self.arrival_cv2 + (1 - share),
            cached_ratio=self.cached_ratio,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    """One of the replicas."""

    cost: StepCost
    kv_tokens: int
    max_running: int
    batch_tokens: int
    """Tokens a step computes at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOutcome:
    """What comes of it."""

    prefill_ratio: float
    """Of a replica's time, what prefill takes."""
    use_ratio: float
    """Prefill and decode together; from 1 on, requests pile up."""
    running: float
    """Sequences that one replica decodes together, the mean; infinite from a load of 1."""
    itl_s: float
    """Mean time between two tokens of an answer."""
    kv_ratio: float
    """Of the KV cache, what those hold."""
    slowdown: float
    """By what prefill takes longer for the sequences that decode beside it."""
    waiting: Waiting
    """For the turn to prefill."""


def prefill_s(cost: StepCost, *, begin_tokens: int, end_tokens: int, batch_tokens: int) -> float:
    """Seconds to compute a prompt's tokens from the one to the other, alone, in steps of `batch_tokens`."""
    full, rest = divmod(end_tokens - begin_tokens, batch_tokens)
    steps = full + (rest > 0)
    linear_s = full * max(cost.weights_s, batch_tokens * cost.token_s)
    if rest:
        linear_s += max(cost.weights_s, rest * cost.token_s)
    own_s = cost.request_s + prefill_pairs(begin_tokens, end_tokens) * cost.attention_s
    return steps * cost.base_s + linear_s + own_s


def own_prefill_s(spec: ReplicaSpec, load: OfferedLoad, prompt_tokens: int) -> float:
    """The same for a prompt of which some is cached; at least its last token is computed."""
    begin = min(int(prompt_tokens * load.cached_ratio), prompt_tokens - 1)
    return prefill_s(spec.cost, begin_tokens=begin, end_tokens=prompt_tokens, batch_tokens=spec.batch_tokens)


def outcome(load: OfferedLoad, spec: ReplicaSpec, replicas: int) -> LoadOutcome:
    """What `replicas` equal replicas make of it, each getting the same part."""
    cost = spec.cost
    rate = load.requests_per_s / replicas
    times = [(own_prefill_s(spec, load, one.prompt_tokens), one.share) for one in load.classes]
    mean_s = sum(time_s * share for time_s, share in times)
    square_s2 = sum(time_s * time_s * share for time_s, share in times)
    tokens_per_s = rate * load.output_tokens
    beside = tokens_per_s * (cost.token_s + _sequence_s(load, cost))
    prefill_ratio = rate * mean_s
    slowdown = 1 / (1 - beside) if beside < 1 else inf
    queue = waiting(
        arrivals_per_s=load.requests_per_s,
        service_s=mean_s * slowdown,
        service_cv2=max(0.0, square_s2 / mean_s**2 - 1) if mean_s else 0.0,
        servers=replicas,
        arrival_cv2=load.arrival_cv2,
    )
    itl_s = _itl_s(load, cost, tokens_per_s, 1 - prefill_ratio)
    # Whoever waited behind a prompt computes first, and its answer stands still meanwhile: Little's law for how many.
    behind = rate * queue.share * queue.mean_s
    if 0 < itl_s < inf and load.output_tokens:
        itl_s += behind * mean_s / (1 - prefill_ratio) / load.output_tokens
    return LoadOutcome(
        prefill_ratio=prefill_ratio,
        use_ratio=prefill_ratio + beside,
        running=tokens_per_s * itl_s,
        itl_s=itl_s,
        kv_ratio=tokens_per_s * itl_s * load.held_tokens / spec.kv_tokens if spec.kv_tokens else inf,
        slowdown=slowdown,
        waiting=queue,
    )


def _itl_s(load: OfferedLoad, cost: StepCost, tokens_per_s: float, left: float) -> float:
    """Time of a step that decodes, over the part of the time that is left for such steps.

    A sequence meets the others that run in the mean (arrivals see time averages: Wolff 1982), and itself. The step
    costs the dearer of reading weights and computing tokens, and with it the number that runs: the fixed point of the
    larger of two lines is the larger of their fixed points.
    """
    own_s = _sequence_s(load, cost)
    return max(
        _fixed_point(cost.base_s + cost.weights_s + own_s, left - tokens_per_s * own_s),
        _fixed_point(cost.base_s + cost.token_s + own_s, left - tokens_per_s * (cost.token_s + own_s)),
    )


def _sequence_s(load: OfferedLoad, cost: StepCost) -> float:
    """What a sequence adds to a step that decodes it, its arithmetic aside."""
    return load.held_tokens * cost.context_token_s + cost.sequence_s


def _fixed_point(numerator_s: float, left: float) -> float:
    return numerator_s / left if left > 0 else inf
