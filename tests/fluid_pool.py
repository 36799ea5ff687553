"""A pool of replicas as a fluid: steps of `StepCost` in small spans of time, start-up delay, drain; for closed loops.

Every request is followed, engines are not: no paging, no preemption, one queue a replica, least work first.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from cluster.core.autoscaling import (
    Arrivals,
    PoolDemand,
    ServiceLevel,
    SpeedCounters,
    SpeedMeter,
)
from cluster.core.capacity.step import StepCost
from cluster.core.lease import PoolName, ReplicaId

SPAN_S = 0.25
TICK_S = 1.0
CHUNK_TOKENS = 2_048
COST = StepCost(base_s=0.004, weights_s=0.012, token_s=2e-4, attention_s=0.0, context_token_s=2e-7)
"""A small card: some 5,000 prompt tokens a second."""
MAX_RUNNING = 64
KV_TOKENS = 150_000
WAITING_MAX = 4
"""The others wait at the gateway."""


MEAN_PROMPT_TOKENS = 812
"""exp(6.2 + 1 / 2): of the lognormal lengths below."""
MEAN_OUTPUT_TOKENS = 100


class Request(NamedTuple):
    arrival_s: float
    prompt_tokens: int
    output_tokens: int


@dataclass(slots=True)
class Replica:
    replica_id: ReplicaId
    ready_s: float
    queue: deque[list[float]] = field(default_factory=deque)
    """Arrival, prompt tokens, output tokens, prompt tokens left."""
    decoding: list[tuple[float, float, Request]] = field(default_factory=list)
    """By the step at which each ends: that, since when, whose."""
    steps: float = 0.0
    queued_tokens: float = 0.0
    context_tokens: int = 0
    is_draining: bool = False
    counted: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SpeedCounters.__slots__, 0.0))

    @property
    def running(self) -> int:
        return len(self.decoding) + min(len(self.queue), 1)

    @property
    def is_empty(self) -> bool:
        return not self.queue and not self.decoding

    def take(self, request: Request) -> None:
        self.queue.append([*request, float(request.prompt_tokens)])
        self.queued_tokens += request.prompt_tokens

    def run(self, now_s: float, answers: list[Answer]) -> None:
        """One span from `now_s` on."""
        end_s = now_s + SPAN_S
        while end_s - now_s > 1e-9 and not self.is_empty:
            batch = len(self.decoding)
            can_prefill = bool(self.queue) and batch < MAX_RUNNING and self.context_tokens < KV_TOKENS
            prefill = min(CHUNK_TOKENS, int(self.queued_tokens) + 1) if can_prefill else 0
            step_s = COST.step_s(
                prefill_tokens=prefill, attended_tokens=0, decoding=batch, context_tokens=self.context_tokens
            )
            spent_s = end_s - now_s
            if can_prefill:
                spent_s = min(spent_s, max(self.queue[0][3], 1e-6) / prefill * step_s)
            if batch:
                spent_s = min(spent_s, max(self.decoding[0][0] - self.steps, 1e-6) * step_s)
            self._count(spent_s, step_s, prefill, batch)
            now_s += spent_s
            self.steps += spent_s / step_s
            if can_prefill:
                self._prefilled(now_s, prefill * spent_s / step_s, answers)
            self._end(now_s, answers)

    def _count(self, spent_s: float, step_s: float, prefill: int, batch: int) -> None:
        counted, steps = self.counted, spent_s / step_s
        if prefill:
            counted["prefill_tokens"] += prefill * steps
            counted["prefill_busy_s"] += spent_s
        counted["prefill_token_s"] += self.queued_tokens * spent_s
        if batch:
            counted["decode_tokens"] += batch * steps
            counted["decode_busy_s"] += spent_s
            counted["decode_sequence_s"] += batch * spent_s
            counted["decode_blocked_s"] += spent_s if prefill else 0.0

    def _prefilled(self, now_s: float, tokens: float, answers: list[Answer]) -> None:
        head = self.queue[0]
        head[3] -= tokens
        self.queued_tokens = max(self.queued_tokens - tokens, 0.0)
        if head[3] < 1e-3:
            self.queue.popleft()
            request = Request(head[0], int(head[1]), int(head[2]))
            answers.append(Answer(request, ttft_s=now_s - request.arrival_s))
            heapq.heappush(self.decoding, (self.steps + request.output_tokens, now_s, request))
            self.context_tokens += request.prompt_tokens + request.output_tokens

    def _end(self, now_s: float, answers: list[Answer]) -> None:
        while self.decoding and self.decoding[0][0] <= self.steps + 1e-6:
            _, since_s, request = heapq.heappop(self.decoding)
            self.context_tokens -= request.prompt_tokens + request.output_tokens
            answers.append(Answer(request, itl_s=(now_s - since_s) / request.output_tokens))


class Answer(NamedTuple):
    request: Request
    ttft_s: float = 0.0
    itl_s: float = 0.0


@dataclass(slots=True)
class Run:
    """What came of it."""

    answers: list[Answer] = field(default_factory=list)
    replica_s: float = 0.0
    """From order to end."""
    sizes: list[int] = field(default_factory=list)
    """Ordered, at each tick."""

    def late_ratio(self, level: ServiceLevel, since_s: float = 0.0) -> float:
        """Requests whose first token was late, of those that came after `since_s`."""
        firsts = [one for one in self.answers if one.ttft_s and one.request.arrival_s >= since_s]
        late = [one for one in firsts if one.ttft_s > level.ttft_limit_s(one.request.prompt_tokens)]
        return len(late) / len(firsts)

    def slow_ratio(self, level: ServiceLevel) -> float:
        rates = [one.itl_s for one in self.answers if one.itl_s]
        return sum(itl_s > level.itl_s for itl_s in rates) / len(rates)

    @property
    def turns(self) -> int:
        """Changes of direction."""
        ways = [now > before for before, now in pairwise(self.sizes) if now != before]
        return sum(one != other for one, other in pairwise(ways))


Sizer = Callable[[PoolDemand], int]


def run(requests: Iterator[Request], sizer: Sizer, *, until_s: float, startup_s: float, ready: int = 1) -> Run:
    """Serve `requests` with as many replicas as `sizer` says at each tick."""
    result, meter = Run(), SpeedMeter()
    replicas = [Replica(ReplicaId(str(number)), ready_s=0.0) for number in range(ready)]
    made, now_s, tick_s = ready, 0.0, 0.0
    held: deque[Request] = deque()
    seen = [0, 0, 0, 0]
    upcoming = next(requests, None)
    while now_s < until_s:
        serving = [one for one in replicas if one.ready_s <= now_s and not one.is_draining]
        while upcoming is not None and upcoming.arrival_s < now_s + SPAN_S:
            seen[0] += 1
            seen[1] += upcoming.prompt_tokens
            held.append(upcoming)
            upcoming = next(requests, None)
        while held and serving:
            least = min(serving, key=lambda one: (one.queued_tokens, len(one.decoding)))
            if len(least.queue) > WAITING_MAX:
                break
            least.take(held.popleft())
        begun = len(result.answers)
        for one in replicas:
            if one.ready_s <= now_s:
                one.run(now_s, result.answers)
        seen[2] += sum(one.request.output_tokens for one in result.answers[begun:] if one.itl_s)
        seen[3] += sum(one.itl_s > 0 for one in result.answers[begun:])
        for one in replicas:
            if one.is_draining and one.is_empty:
                meter.forget(one.replica_id)
        replicas = [one for one in replicas if not (one.is_draining and one.is_empty)]
        result.replica_s += len(replicas) * SPAN_S
        now_s += SPAN_S
        if now_s >= tick_s:
            tick_s += TICK_S
            wanted = sizer(_demand(now_s, replicas, held, seen, meter=meter, startup_s=startup_s))
            result.sizes.append(wanted)
            made = _resize(replicas, wanted, now_s + startup_s, made)
    return result


def _demand(
    now_s: float, replicas: list[Replica], held: deque[Request], seen: list[int], *, meter: SpeedMeter, startup_s: float
) -> PoolDemand:
    active = [one for one in replicas if not one.is_draining]
    serving = [one for one in active if one.ready_s <= now_s]
    for one in serving:
        meter.observe(one.replica_id, SpeedCounters(**one.counted))
    waits = [now_s - one.queue[1][0] for one in serving if len(one.queue) > 1]
    waits += [now_s - one.arrival_s for one in held]
    used = sum(min(one.context_tokens / KV_TOKENS, 1.0) for one in serving)
    return PoolDemand(
        pool=PoolName("pool"),
        now_s=now_s,
        ready=len(serving),
        starting=len(active) - len(serving),
        running=sum(one.running for one in serving),
        waiting=sum(max(len(one.queue) - 1, 0) for one in serving),
        held=len(held),
        oldest_wait_s=max(waits, default=0.0),
        prefill_tokens=int(sum(one.queued_tokens for one in serving)) + sum(one.prompt_tokens for one in held),
        kv_use_ratio=used / len(serving) if serving else 0.0,
        arrivals=Arrivals(requests=seen[0], prefill_tokens=seen[1], output_tokens=seen[2], answers=seen[3]),
        speed=meter.speed(kv_tokens=KV_TOKENS, max_running=MAX_RUNNING),
        startup_s=startup_s,
    )


def _resize(replicas: list[Replica], wanted: int, ready_s: float, made: int) -> int:
    active = [one for one in replicas if not one.is_draining]
    for one in sorted(active, key=lambda one: -one.ready_s)[: max(len(active) - wanted, 0)]:
        one.is_draining = True
    until = made + max(wanted - len(active), 0)
    replicas.extend(Replica(ReplicaId(str(number)), ready_s=ready_s) for number in range(made, until))
    return until


def poisson(
    rate: Callable[[float], float], until_s: float, seed: int, *, most: float, mean_log_tokens: float = 6.2
) -> Iterator[Request]:
    """Requests at a rate that changes in time (thinning); lengths as in Mooncake's spread: cs² = 1.7."""
    rng, now_s = random.Random(seed), 0.0
    while True:
        now_s += rng.expovariate(most)
        if now_s >= until_s:
            return
        if rng.random() * most < rate(now_s):
            # Lognormal with sigma 1 has cs² = e - 1 = 1.72.
            prompt_tokens = max(int(rng.lognormvariate(mean_log_tokens, 1.0)), 16)
            yield Request(now_s, prompt_tokens, max(int(rng.expovariate(1 / MEAN_OUTPUT_TOKENS)), 2))
