"""Fits, and traces generated from them, against each other and against the public traces."""

from __future__ import annotations

import json
from statistics import fmean

import pytest

from cluster.simulator.trace import Trace, TraceRequest
from cluster.simulator.traces import Bursts, builtin_fits, fit_trace, generate, read_trace
from cluster.simulator.traces.fit import PROBABILITIES, is_rising, quantile, quantiles_of, shared_blocks
from cluster.simulator.traces.library import fit_as_json, fit_from
from tests.traces import public_trace

FILES = {
    "mooncake-conversation": "conversation_trace.jsonl",
    "azure-code": "AzureLLMInferenceTrace_code.csv",
    "azure-conversation": "AzureLLMInferenceTrace_conv.csv",
}
HIT_RATIO = 0.366
"""Mooncake's, with a cache without end (counted by hand over the file)."""


def hit_ratio(trace: Trace) -> float:
    known: dict[int, float] = {}
    shared = 0
    for request in trace.requests:
        shared += shared_blocks(request, known)
        known.update(dict.fromkeys(request.blocks, 0.0))
    return shared / sum(len(request.blocks) for request in trace.requests)


@pytest.mark.parametrize("name", builtin_fits())
def test_a_generated_trace_has_the_quantiles_of_its_fit(name: str) -> None:
    fit = builtin_fits()[name]
    trace = generate(fit, requests=6000, seed=3)
    prompts = quantiles_of([request.prompt_tokens for request in trace.requests])
    for probability in (0.25, 0.5, 0.75, 0.9, 0.95):
        wanted = quantile(fit.prompt_tokens, probability)
        near = [quantile(prompts, probability + step) for step in (-0.015, 0.015)]
        assert near[0] - 1 <= wanted <= near[1] + 1, probability
    mean = fmean(request.output_tokens for request in trace.requests)
    uniform = [(step + 0.5) / 1000 for step in range(1000)]
    fitted = fmean(fmean(quantile(band, probability) for probability in uniform) for band in fit.output_tokens)
    assert mean == pytest.approx(fitted, rel=0.08)


def test_generated_prompts_share_prefixes_as_the_trace_does() -> None:
    trace = generate(builtin_fits()["mooncake-conversation"], requests=12_000, seed=1)
    assert hit_ratio(trace) == pytest.approx(HIT_RATIO, abs=0.03)
    assert all(len(request.blocks) == -(-request.prompt_tokens // 512) for request in trace.requests)


def test_generated_requests_come_at_the_rate_that_is_asked() -> None:
    fit = builtin_fits()["azure-conversation"]
    trace = generate(fit, requests=3000, seed=1, requests_per_s=30.0)
    assert trace.requests[-1].arrival_s == pytest.approx(100.0, rel=0.02)
    assert min(request.arrival_s for request in trace.requests) >= 0


def test_the_same_seed_generates_the_same() -> None:
    fit = builtin_fits()["mooncake-conversation"]
    assert generate(fit, requests=300, seed=5) == generate(fit, requests=300, seed=5)
    assert generate(fit, requests=300, seed=5) != generate(fit, requests=300, seed=6)


@pytest.mark.parametrize(("requests", "rate"), [(0, 1.0), (5, 0.0)])
def test_nothing_is_generated_of_nothing(requests: int, rate: float) -> None:
    with pytest.raises(ValueError, match="a second"):
        generate(builtin_fits()["azure-code"], requests=requests, seed=1, requests_per_s=rate)


@pytest.mark.parametrize("name", FILES)
def test_the_fits_that_come_along_are_those_of_the_public_traces(name: str) -> None:
    fitted = fit_trace(read_trace(public_trace(FILES[name])), source="")
    kept = builtin_fits()[name]
    assert kept.prompt_tokens == pytest.approx(fitted.prompt_tokens, abs=0.01)
    assert kept.requests_per_s == pytest.approx(fitted.requests_per_s, abs=0.001)
    assert kept.bursts.long_variance == pytest.approx(fitted.bursts.long_variance, abs=0.001)
    assert (kept.sharing is None) == (fitted.sharing is None)


def test_a_fit_of_a_generated_trace_is_the_fit_again() -> None:
    fit = builtin_fits()["azure-code"]
    again = fit_trace(generate(fit, requests=20_000, seed=2), source="")
    assert again.bursts.short_variance == pytest.approx(fit.bursts.short_variance, rel=0.25)
    assert again.bursts.long_variance == pytest.approx(fit.bursts.long_variance, rel=0.5)
    assert again.sharing is None


def test_requests_at_an_even_pace_are_no_bursts() -> None:
    requests = tuple(TraceRequest(at / 2, 100, 10) for at in range(2000))
    assert fit_trace(Trace(name="even", block_tokens=512, requests=requests), source="").bursts == Bursts()


def test_few_requests_are_not_fitted() -> None:
    trace = Trace(name="few", block_tokens=512, requests=(TraceRequest(0.0, 1, 1),))
    with pytest.raises(ValueError, match="make no distribution"):
        fit_trace(trace, source="")


@pytest.mark.parametrize("name", builtin_fits())
def test_a_fit_survives_json_and_says_where_it_is_from(name: str) -> None:
    fit = builtin_fits()[name]
    assert fit_from(json.loads(json.dumps(fit_as_json(fit)))) == fit
    assert "CC-BY-4.0" in fit.source or "Apache-2.0" in fit.source
    assert all(map(is_rising, (fit.prompt_tokens, *fit.output_tokens)))


def test_a_quantile_is_interpolated_between_the_known_ones() -> None:
    values = quantiles_of(list(range(1001)))
    assert len(values) == len(PROBABILITIES)
    assert [quantile(values, probability) for probability in (0.0, 0.33, 0.999, 1.0)] == pytest.approx(
        [0, 330, 999, 1000]
    )
