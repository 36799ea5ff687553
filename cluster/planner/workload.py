"""What is to be served: a rate with lengths, or the requests of a trace, as the classes of an offered load.

What must not live here: reading trace files (cluster/simulator/traces), what serving takes (cluster/core/capacity).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import exp, log, log2
from statistics import NormalDist, fmean, pvariance

from cluster.core.autoscaling import ServiceLevel
from cluster.core.capacity.load import OfferedLoad, RequestClass
from cluster.core.errors import SetupError
from cluster.simulator.trace import Trace, TraceRequest

CLASSES = 128
"""Sizes a distribution is divided into: quantiles 0.4% to 99.6%."""
BINS_PER_DOUBLING = 8
"""Sizes a trace's prompts are gathered by: 9% apart."""
WINDOW_S = 30.0
"""Over which a trace's arrivals are counted: some files give times in steps of seconds."""
GOLDEN = 0.6180339887498949
"""Steps of this part spread evenly, whatever their number: prompts and outputs are paired without order or chance."""
P95 = NormalDist().inv_cdf(0.95)
TOKENS_MAX = 16_777_216
FORM = "RATE,PROMPT,OUTPUT, as 2,8000,300: requests a second and tokens; a length may be P50/P95, as 4000/60000"
LEVEL_KEYS = {
    "ttft": "ttft_s",
    "ttft_per_1k": "ttft_s_per_1k_tokens",
    "itl": "itl_s",
    "queue_age": "queue_age_s",
}


def offered_load(text: str) -> OfferedLoad:
    """The load that `RATE,PROMPT,OUTPUT` means. `P50/P95` is a lognormal distribution with these quantiles.

    Raises:
        SetupError: it means nothing.
    """
    parts = text.split(",")
    try:
        rate, prompt, output = parts
        load = OfferedLoad(requests_per_s=float(rate), classes=_classes(_lengths(prompt), _lengths(output)))
    except ValueError as error:
        raise SetupError(f"{text!r} is no workload ({error})", f"a trace file, or {FORM}") from error
    if not 0 < load.requests_per_s < float("inf"):
        raise SetupError(f"{text!r}: {rate} requests a second", f"a rate above 0; {FORM}")
    return load


def load_of_trace(trace: Trace) -> OfferedLoad:
    """The load a trace is in the mean, with how much its arrivals vary.

    That is the index of dispersion, variance over mean of the arrivals in windows: of a stationary process it comes
    near the squared coefficient of variation of the time between arrivals (Cox and Lewis 1966). Slow changes of the
    rate are in it, too.

    Raises:
        SetupError: it has too little for a rate.
    """
    requests = trace.requests
    duration_s = requests[-1].arrival_s - requests[0].arrival_s if requests else 0.0
    if duration_s <= 0:
        raise SetupError(f"trace {trace.name} has no two moments, so no rate", f"a longer trace, or {FORM}")
    bins: dict[int, list[TraceRequest]] = {}
    for request in requests:
        bins.setdefault(int(log2(request.prompt_tokens) * BINS_PER_DOUBLING), []).append(request)
    classes = tuple(
        RequestClass(
            prompt_tokens=round(fmean(one.prompt_tokens for one in gathered)),
            output_tokens=max(1, round(fmean(one.output_tokens for one in gathered))),
            share=len(gathered) / len(requests),
        )
        for _, gathered in sorted(bins.items())
    )
    return OfferedLoad(
        requests_per_s=len(requests) / duration_s, classes=classes, arrival_cv2=_dispersion(requests, duration_s)
    )


def at_rate(load: OfferedLoad, requests_per_s: float) -> OfferedLoad:
    """The same sizes, so many a second."""
    return replace(load, requests_per_s=requests_per_s)


def service_level(text: str | None) -> ServiceLevel:
    """The level that `ttft=2,itl=0.05` means: seconds; what is left out is the usual.

    Raises:
        SetupError: it means nothing.
    """
    values: dict[str, float] = {}
    known = ", ".join(LEVEL_KEYS)
    for part in filter(None, (text or "").split(",")):
        key, _, number = part.partition("=")
        name = LEVEL_KEYS.get(key.strip().replace("-", "_"))
        if name is None:
            raise SetupError(f"{part!r} is no part of a service level", f"name {known}, as ttft=2,itl=0.05 (seconds)")
        try:
            values[name] = float(number)
        except ValueError:
            raise SetupError(f"{part!r} has no number of seconds", "as ttft=2,itl=0.05") from None
        if not 0 <= values[name] < float("inf") or (not values[name] and name != "ttft_s_per_1k_tokens"):
            raise SetupError(f"{part!r} is not above 0", "give seconds, as ttft=2,itl=0.05")
    return ServiceLevel(**values)


def _lengths(text: str) -> tuple[float, float]:
    """Median and 95th percentile; equal where one number is given."""
    middle, _, high = text.partition("/")
    lengths = float(middle), float(high or middle)
    if not 1 <= lengths[0] <= lengths[1] <= TOKENS_MAX:
        raise ValueError(f"{text!r} is not from 1 to {TOKENS_MAX:,} tokens, smaller first")
    return lengths


def _classes(prompt: tuple[float, float], output: tuple[float, float]) -> tuple[RequestClass, ...]:
    if prompt[0] == prompt[1] and output[0] == output[1]:
        return (RequestClass(prompt_tokens=round(prompt[0]), output_tokens=round(output[0]), share=1.0),)
    return tuple(
        RequestClass(
            prompt_tokens=_quantile(prompt, (place + 0.5) / CLASSES),
            output_tokens=_quantile(output, (place * GOLDEN + 0.5) % 1),
            share=1 / CLASSES,
        )
        for place in range(CLASSES)
    )


def _quantile(lengths: tuple[float, float], probability: float) -> int:
    sigma = log(lengths[1] / lengths[0]) / P95
    # Never the ends, where the normal distribution is infinite.
    inside = min(max(probability, 0.5 / CLASSES), 1 - 0.5 / CLASSES)
    return max(1, round(exp(log(lengths[0]) + sigma * NormalDist().inv_cdf(inside))))


def _dispersion(requests: Sequence[TraceRequest], duration_s: float) -> float:
    windows = int(duration_s / WINDOW_S)
    if windows < 2:  # noqa: PLR2004 (a variance needs two)
        return 1.0
    begin_s = requests[0].arrival_s
    counts = Counter(int((request.arrival_s - begin_s) / WINDOW_S) for request in requests)
    numbers = [counts[window] for window in range(windows)]
    mean = fmean(numbers)
    return pvariance(numbers) / mean if mean else 1.0
