"""How many replicas the work fills: for first tokens, for places in batches and KV cache, for the queue's age.

Each answers for now, and for when a replica ordered now would serve, with its numbers in words. What must not live
here: bounds, hysteresis, memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cluster.core.autoscaling.demand import PoolDemand, PoolSpeed
from cluster.core.autoscaling.mix import Mix
from cluster.core.autoscaling.staffing import places_for, servers_for_wait
from cluster.core.autoscaling.target import Bound, ServiceLevel
from cluster.core.autoscaling.traffic import LENGTH_SPREAD, Forecast, Rates

SLACK_MIN_RATIO = 0.25
"""A prompt that takes nearly its whole limit to compute leaves no time to wait; less wait than this part of a short
prompt's limit is not bought with replicas: they do not compute one prompt faster."""
KV_FULL_RATIO = 0.9
"""KV cache that counts as full: beyond, vLLM soon preempts, and what it preempts is computed twice."""
FLOOR_GROWTH_RATIO = 2.0
"""With a queue, but a speed that was only measured with little to do: a replica at work will show its speed within
seconds, so at most so many times the replicas are ordered before that."""
QUEUE_GROWTH_RATIO = 2.0
"""A queue's age tells that there are too few, but not how many: at most so many times those that serve."""


class Need(NamedTuple):
    """Replicas by one bound."""

    bound: Bound
    now: float
    """Of the work at hand, were the number to change at once."""
    ahead: float
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A demand, and what the policy makes of its history."""

    demand: PoolDemand
    level: ServiceLevel
    speed: PoolSpeed
    forecast: Forecast
    mix: Mix
    horizon_s: float
    arriving_s: Sequence[float] = ()
    """From now until each replica that is on its way serves."""

    def scaled(self, ratio: float) -> Outlook:
        """The same, with so many times the traffic."""
        now, ahead = (Rates(rates.requests * ratio, rates.prefill_tokens * ratio) for rates in self.forecast)
        return Outlook(
            demand=self.demand,
            level=self.level,
            speed=self.speed,
            forecast=Forecast(now, ahead),
            mix=self.mix,
            horizon_s=self.horizon_s,
            arriving_s=self.arriving_s,
        )

    @property
    def prompt_tokens(self) -> float:
        """Of a request, to compute; what waits counts where nothing has come lately."""
        rates, demand = self.forecast.now, self.demand
        if rates.requests > 0:
            return rates.prefill_tokens / rates.requests
        return demand.prefill_tokens / max(demand.waiting + demand.held, 1)

    @property
    def queued_tokens(self) -> float:
        """Prompt tokens to compute, beyond those of prompts that replicas are just at; 0 where nobody waits."""
        demand = self.demand
        if demand.waiting + demand.held == 0:
            return 0.0
        return max(demand.prefill_tokens - demand.ready * LENGTH_SPREAD * self.prompt_tokens, 0.0)

    @property
    def queued_ahead_tokens(self) -> float:
        """The same at the horizon, with the replicas there are by then."""
        rate = (self.forecast.now.prefill_tokens + self.forecast.ahead.prefill_tokens) / 2
        queued, at_s, serving = self.queued_tokens, 0.0, self.demand.ready
        for until_s in (*sorted(min(arrival, self.horizon_s) for arrival in self.arriving_s), self.horizon_s):
            queued = max(queued + (rate - serving * self.speed.prefill_tokens_per_s) * (until_s - at_s), 0.0)
            at_s, serving = until_s, serving + 1
        return queued


def needs(outlook: Outlook) -> tuple[Need, ...]:
    """All that can be told from measured speeds."""
    found = []
    if outlook.speed.prefill_tokens_per_s > 0:
        found.append(_prefill(outlook))
    places = _places(outlook)
    if places is not None:
        found.append(places)
    return tuple(found)


def _prefill(outlook: Outlook) -> Need:
    speed, level, demand = outlook.speed.prefill_tokens_per_s, outlook.level, outlook.demand
    prompt_tokens = outlook.prompt_tokens
    service_s = prompt_tokens / speed
    # The limit rises with length as the own computation does, so one end or the other leaves least.
    slack_s = max(min(level.ttft_s, level.ttft_limit_s(prompt_tokens) - service_s), SLACK_MIN_RATIO * level.ttft_s)
    now, ahead = (
        servers_for_wait(rates.prefill_tokens / speed, service_s=service_s, wait_s=slack_s)
        for rates in outlook.forecast
    )
    now += outlook.queued_tokens / (speed * slack_s)
    # Whoever waits at the horizon is late already: clearing faster than replicas start would only buy idle ones.
    queued_ahead = outlook.queued_ahead_tokens
    ahead += queued_ahead / (speed * max(slack_s, outlook.horizon_s))
    at_least = ""
    if outlook.speed.prefill_is_floor:
        at_least = "at least "
        are_behind = queued_ahead > 0 and outlook.queued_tokens > 0
        most = max(demand.ready, 1) * FLOOR_GROWTH_RATIO if are_behind else demand.ready + demand.starting
        now, ahead = min(now, most), min(ahead, most)
    coming = outlook.forecast
    left = f", {queued_ahead:,.0f} would wait in {outlook.horizon_s:.0f} s" if queued_ahead >= 1 else ""
    words = (
        f"prefill: {demand.prefill_tokens:,} tokens wait{left}, {coming.now.prefill_tokens:,.0f} tokens/s come"
        f"{_ahead(coming.now.prefill_tokens, coming.ahead.prefill_tokens, outlook.horizon_s)}, "
        f"a replica does {at_least}{speed:,.0f}/s: {math.ceil(ahead)} for a first token within {level.ttft_s:g} s + "
        f"{level.ttft_s_per_1k_tokens:g} s per 1,000 tokens"
    )
    return Need(Bound.PREFILL, now, ahead, words)


def _places(outlook: Outlook) -> Need | None:
    """Sequences are in the engines for as long as their prefill and decode take; each needs a place in a batch."""
    speed, demand, mix = outlook.speed, outlook.demand, outlook.mix
    places, bound, why = _places_of_a_replica(outlook)
    if math.isinf(places):
        return None
    stay_s = mix.output_tokens_per_request * token_s(speed, places)
    if speed.prefill_tokens_per_s > 0:
        stay_s += outlook.prompt_tokens / speed.prefill_tokens_per_s
    coming, then = outlook.forecast
    growth = then.requests / coming.requests if coming.requests > 0 else 1.0
    # Answers that are longer than was known show in how many run, unless that is one moment's whim.
    lasting = min(mix.running, float(demand.running))
    now = places_for(max(coming.requests * stay_s, lasting)) / places
    ahead = places_for(max(then.requests * stay_s, lasting * growth)) / places
    at_hand = max(demand.running / places, demand.ready * demand.kv_use_ratio / KV_FULL_RATIO)
    words = (
        f"{bound.value}: {demand.running:,} sequences run, {coming.requests:,.2f} requests/s come"
        f"{_ahead(coming.requests, then.requests, outlook.horizon_s)} and stay {stay_s:.1f} s, "
        f"a replica holds {places:,.1f} ({why}): {math.ceil(ahead)}"
    )
    return Need(bound, max(now, at_hand), ahead, words)


def _places_of_a_replica(outlook: Outlook) -> tuple[float, Bound, str]:
    """How many sequences one replica may have, and by which bound."""
    speed = outlook.speed
    places, bound, why = math.inf, Bound.DECODE, ""
    if speed.max_running:
        places, why = float(speed.max_running), "its batch is full then"
    by_itl = batch_limit(speed, outlook.level.itl_s)
    if by_itl < places:
        places, why = by_itl, f"{outlook.level.itl_s:g} s a token"
    if outlook.mix.kv_ratio_per_sequence > 0:
        by_kv = KV_FULL_RATIO / outlook.mix.kv_ratio_per_sequence
        if by_kv < places:
            places, bound, why = by_kv, Bound.KV, f"its KV cache is {KV_FULL_RATIO:.0%} full then"
    return max(places, 1.0), bound, why


def batch_limit(speed: PoolSpeed, itl_s: float) -> float:
    """Sequences that one replica decodes with at most `itl_s` between tokens; infinite where nothing speaks against.

    The time of a step rises linearly with its batch: a sequence alone, and more for each further one. Where only one
    batch was measured: if it was fast enough, larger ones are tried; if not, time is taken as proportional. Where a
    sequence alone is too slow, more replicas do not help, and the limit says nothing.
    """
    batch = speed.decode_sequences
    if speed.decode_tokens_per_s <= 0 or batch <= 0:
        return math.inf
    measured_s = batch / speed.decode_tokens_per_s
    alone_s = speed.decode_alone_s
    if alone_s is None:
        if measured_s <= itl_s:
            return math.inf
        limit = batch * itl_s / measured_s
        return limit if limit >= 1 else math.inf
    if alone_s > itl_s or batch <= 1:
        return math.inf
    further_s = (measured_s - alone_s) / (batch - 1)
    return 1 + (itl_s - alone_s) / further_s if further_s > 0 else math.inf


def token_s(speed: PoolSpeed, batch: float) -> float:
    """Expected seconds between tokens in such a batch; 0: nothing is known."""
    if speed.decode_tokens_per_s <= 0:
        return 0.0
    measured_s = speed.decode_sequences / speed.decode_tokens_per_s
    if speed.decode_alone_s is None or speed.decode_sequences <= 1:
        return measured_s
    further_s = (measured_s - speed.decode_alone_s) / (speed.decode_sequences - 1)
    return speed.decode_alone_s + max(further_s, 0.0) * (batch - 1)


def queue_age(demand: PoolDemand, level: ServiceLevel) -> Need | None:
    """Somebody waits too long, whatever the reason is."""
    if demand.oldest_wait_s <= level.queue_age_s or demand.ready == 0:
        return None
    replicas = demand.ready * min(demand.oldest_wait_s / level.queue_age_s, QUEUE_GROWTH_RATIO)
    words = (
        f"queue age: the oldest request has waited {demand.oldest_wait_s:.1f} s, at most {level.queue_age_s:g} s are "
        f"promised: {math.ceil(replicas)}"
    )
    return Need(Bound.QUEUE_AGE, replicas, replicas, words)


def _ahead(now: float, ahead: float, horizon_s: float) -> str:
    return f" ({ahead:,.1f} in {horizon_s:.0f} s)" if ahead > 1.01 * now else ""
