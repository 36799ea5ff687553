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
from cluster.core.autoscaling.traffic import Forecast

SLACK_MIN_RATIO = 0.25
"""A prompt that takes nearly its whole limit to compute leaves no time to wait; less wait than this part of a short
prompt's limit is not bought with replicas: they do not compute one prompt faster."""
KV_FULL_RATIO = 0.9
"""KV cache that counts as full: beyond, vLLM soon preempts, and what it preempts is computed twice."""
LENGTH_SPREAD = 2.7
"""E[L²] / E[L]² of prompt lengths, measured in Mooncake's conversations (Azure's: 1.9): the prompt that a replica is
just at has so many times the mean length."""
ITL_SPREAD = 2.5
"""What 95% of answers lose at most to prompts and company, per token, in terms of the mean: 2.2 to 3.0 in the tests'
fluid model with 100 tokens an answer; longer answers even it out."""
FLOOR_GROWTH_RATIO = 2.0
"""With a queue, but a speed that was only measured with little to do: a replica at work will show its speed within
seconds, so at most so many times the replicas are ordered before that."""
QUEUE_GROWTH_RATIO = 2.0
"""A queue's age tells that there are too few, but not how many: at most so many times those that serve, nor more than
so many times what measured speeds say. Else a queue that no replica can shorten would double a pool without end."""


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
        return Outlook(
            demand=self.demand,
            level=self.level,
            speed=self.speed,
            forecast=Forecast(self.forecast.now * ratio, self.forecast.ahead * ratio),
            mix=self.mix,
            horizon_s=self.horizon_s,
            arriving_s=self.arriving_s,
        )

    @property
    def prompt_tokens(self) -> float:
        """Of a request, to compute; what waits counts where nothing has come yet."""
        known = self.mix.prefill_tokens_per_request
        return known or self.demand.prefill_tokens / max(self.demand.waiting + self.demand.held, 1)

    @property
    def request_s(self) -> float:
        """A busy replica's time for a request: its prompt, and its tokens' parts of the steps of a full batch."""
        places, _, _ = self.places
        decode_s = 0.0
        if not math.isinf(places):
            decode_s = self.mix.output_tokens_per_request * step_of(self.speed, places) / places
        prefill_speed = self.speed.prefill_tokens_per_s
        return decode_s + (self.prompt_tokens / prefill_speed if prefill_speed > 0 else 0.0)

    @property
    def busy_speed(self) -> float:
        """Prompt tokens a second of a replica that has as much to do as it can, its answers included."""
        request_s = self.request_s
        return self.prompt_tokens / request_s if request_s > 0 else 0.0

    @property
    def places(self) -> tuple[float, Bound, str]:
        """How many sequences one replica may have, and by which bound; infinite where nothing limits them."""
        places, bound, why = math.inf, Bound.DECODE, ""
        if self.speed.max_running:
            places, why = float(self.speed.max_running), "its batch is full then"
        if self.mix.kv_ratio_per_sequence > 0:
            by_kv = KV_FULL_RATIO / self.mix.kv_ratio_per_sequence
            if by_kv < places:
                places, bound, why = by_kv, Bound.KV, f"its KV cache is {KV_FULL_RATIO:.0%} full then"
        return max(places, 1.0), bound, why

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
        rate = (self.forecast.now + self.forecast.ahead) / 2 * self.prompt_tokens
        speed = self.busy_speed
        queued, at_s, serving = self.queued_tokens, 0.0, self.demand.ready
        for until_s in (*sorted(min(arrival, self.horizon_s) for arrival in self.arriving_s), self.horizon_s):
            queued = max(queued + (rate - serving * speed) * (until_s - at_s), 0.0)
            at_s, serving = until_s, serving + 1
        return queued


def needs(outlook: Outlook) -> tuple[Need, ...]:
    """All that can be told from measured speeds."""
    found = (_first_token(outlook), _batch(outlook), _between_tokens(outlook))
    most = _most_by_floor(outlook)
    return tuple(
        Need(need.bound, min(need.now, most), min(need.ahead, most), need.words) for need in found if need is not None
    )


def _most_by_floor(outlook: Outlook) -> float:
    """What a speed can prove that is only known to be no less: that those there are have too little to do, or a queue.

    Otherwise an idle pool's own slowness would order replicas, and each would be as idle.
    """
    demand = outlook.demand
    if not outlook.speed.prefill_is_floor:
        return math.inf
    current = float(demand.ready + demand.starting)
    is_behind = outlook.queued_tokens > 0 and outlook.queued_ahead_tokens > 0
    return max(max(demand.ready, 1) * FLOOR_GROWTH_RATIO, current) if is_behind else current


def _first_token(outlook: Outlook) -> Need | None:
    """Replicas whose queue is short enough 95 times in 100, and clears what waits already.

    Queueing theory's servers are replicas, and their work is `request_s`: prompts come first in a step, but a batch
    that is full has to be decoded before the next one may join.
    """
    speed, level, demand = outlook.speed.prefill_tokens_per_s, outlook.level, outlook.demand
    prompt_tokens = outlook.prompt_tokens
    if speed <= 0:
        return None
    if prompt_tokens <= 0:
        return Need(Bound.PREFILL, 0.0, 0.0, "prefill: no prompt tokens wait or come: 0")
    service_s = prompt_tokens / speed
    # The limit rises with length as the own computation does, so one end or the other leaves least.
    slack_s = max(min(level.ttft_s, level.ttft_limit_s(prompt_tokens) - service_s), SLACK_MIN_RATIO * level.ttft_s)
    now, ahead = (
        servers_for_wait(requests_per_s * outlook.request_s, service_s=service_s, wait_s=slack_s)
        for requests_per_s in outlook.forecast
    )
    now += outlook.queued_tokens / (outlook.busy_speed * slack_s)
    # Whoever waits at the horizon is late already: clearing faster than replicas start would only buy idle ones.
    queued_ahead = outlook.queued_ahead_tokens
    ahead += queued_ahead / (outlook.busy_speed * max(slack_s, outlook.horizon_s))
    coming, then = (requests_per_s * prompt_tokens for requests_per_s in outlook.forecast)
    left = f", {queued_ahead:,.0f} would wait in {outlook.horizon_s:.0f} s" if queued_ahead >= 1 else ""
    at_least = "at least " if outlook.speed.prefill_is_floor else ""
    beside = " beside its answers" if outlook.busy_speed < 0.95 * speed else ""
    words = (
        f"prefill: {demand.prefill_tokens:,} tokens wait{left}, {coming:,.0f} tokens/s come"
        f"{_ahead(coming, then, outlook.horizon_s)}, a replica does {at_least}{outlook.busy_speed:,.0f}/s{beside}: "
        f"{math.ceil(ahead)} for a first token within {level.ttft_s:g} s + {level.ttft_s_per_1k_tokens:g} s per 1,000 "
        f"tokens"
    )
    return Need(Bound.PREFILL, now, ahead, words)


def _batch(outlook: Outlook) -> Need | None:
    """Time and places for sequences: a replica's time goes to prompts or to steps of a batch that is limited.

    With u = prefill tokens/s / prefill speed, o output tokens/s, s(m) a step of m sequences, replicas R, and the batch
    full on average, R x (1 - u / R) = o x s(m) / m, so R = u + o x s(m) / m. Beyond that, places for how much the
    number of sequences swings (`places_for`).
    """
    demand, mix = outlook.demand, outlook.mix
    places, bound, why = outlook.places
    if math.isinf(places):
        return None
    coming, then = outlook.forecast
    growth = then / coming if coming > 0 else 1.0
    stay_s = mix.output_tokens_per_request * step_of(outlook.speed, places)
    if outlook.speed.prefill_tokens_per_s > 0:
        stay_s += outlook.prompt_tokens / outlook.speed.prefill_tokens_per_s
    # Answers that are longer than was known show in how many run, unless that is one moment's whim.
    lasting = min(mix.running, float(demand.running)) / places
    now, ahead = (
        max(requests_per_s * outlook.request_s + _swing(requests_per_s * stay_s) / places, lasting * ratio)
        for requests_per_s, ratio in ((coming, 1.0), (then, growth))
    )
    at_hand = max(demand.running / places, demand.ready * demand.kv_use_ratio / KV_FULL_RATIO)
    words = (
        f"{bound.value}: {demand.running:,} sequences run, {coming:,.2f} requests/s come"
        f"{_ahead(coming, then, outlook.horizon_s)}, {mix.output_tokens_per_request:,.0f} tokens out each, a replica "
        f"holds {places:,.1f} ({why}): {math.ceil(ahead)}"
    )
    return Need(bound, max(now, at_hand), ahead, words)


def _swing(sequences: float) -> float:
    return places_for(sequences) - sequences


def _between_tokens(outlook: Outlook) -> Need | None:
    """Replicas that keep the time between tokens.

    A step of n sequences takes a + b (n - 1), and they get the time that prompts leave, 1 - u / R. By Little's law
    n = (o / R) x ITL, so the mean ITL is (a - b) / (1 - x) with x = (u + o b) / R: a step's time, and
    (a - b) x / (1 - x) for prompts and company. Of the latter an answer has up to `ITL_SPREAD` times as much as the
    mean. Where a sequence alone takes longer than the limit, more replicas do not help, and there is no need.
    """
    speed, itl_s = outlook.speed, outlook.level.itl_s
    alone_s, further_s = step_line(speed, itl_s)
    step_s = alone_s - further_s
    if step_s >= itl_s or alone_s <= 0 or speed.prefill_tokens_per_s <= 0:
        return None
    output_tokens = outlook.mix.output_tokens_per_request
    a_request_s = outlook.prompt_tokens / speed.prefill_tokens_per_s + output_tokens * further_s
    most = (itl_s - step_s) / (itl_s - step_s + ITL_SPREAD * step_s)
    now, ahead = (requests_per_s * a_request_s / most for requests_per_s in outlook.forecast)
    coming, then = outlook.forecast
    words = (
        f"decode: {coming:,.2f} requests/s come{_ahead(coming, then, outlook.horizon_s)}, "
        f"{output_tokens:,.0f} tokens out each; a step takes {alone_s:.3g} s, {further_s:.2g} s more for each further "
        f"sequence, and waits for prompts: {math.ceil(ahead)} for {itl_s:g} s between tokens"
    )
    return Need(Bound.DECODE, now, ahead, words)


def step_line(speed: PoolSpeed, itl_s: float) -> tuple[float, float]:
    """Seconds of a step with one sequence, and what each further one adds; zeros: nothing is known.

    Where only one batch was measured: if it was fast enough, larger ones are tried, as if sequences added nothing; if
    not, time is taken as proportional.
    """
    batch = speed.decode_sequences
    if speed.decode_tokens_per_s <= 0 or batch <= 0:
        return 0.0, 0.0
    measured_s = batch / speed.decode_tokens_per_s
    if batch <= 1:
        return measured_s, 0.0
    if speed.decode_alone_s is not None:
        return speed.decode_alone_s, max((measured_s - speed.decode_alone_s) / (batch - 1), 0.0)
    return (measured_s, 0.0) if measured_s <= itl_s else (measured_s / batch, measured_s / batch)


def step_of(speed: PoolSpeed, batch: float) -> float:
    """Seconds of a step of such a batch, as far as is known."""
    alone_s, further_s = step_line(speed, math.inf)
    return alone_s + further_s * (batch - 1)


def queue_age(demand: PoolDemand, level: ServiceLevel, measured: Sequence[Need]) -> Need | None:
    """Somebody waits too long, whatever the reason is; `measured` is what speeds say, none: they are not known."""
    if demand.oldest_wait_s <= level.queue_age_s or demand.ready == 0:
        return None
    replicas = demand.ready * min(demand.oldest_wait_s / level.queue_age_s, QUEUE_GROWTH_RATIO)
    if measured:
        replicas = min(replicas, QUEUE_GROWTH_RATIO * max(1.0, *(need.ahead for need in measured)))
    words = (
        f"queue age: the oldest request has waited {demand.oldest_wait_s:.1f} s, at most {level.queue_age_s:g} s are "
        f"promised: {math.ceil(replicas)}"
    )
    return Need(Bound.QUEUE_AGE, replicas, replicas, words)


def _ahead(now: float, ahead: float, horizon_s: float) -> str:
    return f" ({ahead:,.1f} in {horizon_s:.0f} s)" if ahead > 1.01 * now else ""
