"""What is to be served: a line of text, or a trace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.autoscaling import ServiceLevel
from cluster.core.errors import SetupError
from cluster.planner.workload import load_of_trace, offered_load, service_level
from cluster.simulator.trace import Trace, TraceRequest


def test_one_size() -> None:
    load = offered_load("2,8000,300")
    assert (load.requests_per_s, load.prompt_tokens, load.output_tokens) == (2.0, 8000, 300)
    assert load.held_tokens == 8150


@given(st.integers(100, 50_000), st.floats(1.0, 20.0), st.integers(10, 1_000))
def test_quantiles_are_kept(middle: int, spread: float, output: int) -> None:
    high = int(middle * spread)
    load = offered_load(f"1,{middle}/{high},{output}")
    prompts = sorted(one.prompt_tokens for one in load.classes)
    assert sum(one.share for one in load.classes) == pytest.approx(1)
    if len(prompts) > 1:
        assert prompts[len(prompts) // 2] == pytest.approx(middle, rel=0.05)
        assert prompts[int(len(prompts) * 0.95)] == pytest.approx(high, rel=0.05)


def test_long_prompts_do_not_mean_long_answers() -> None:
    load = offered_load("1,4000/60000,300/900")
    short = [one for one in load.classes if one.prompt_tokens <= 4_000]
    long = [one for one in load.classes if one.prompt_tokens > 4_000]
    means = [sum(one.output_tokens for one in part) / len(part) for part in (short, long)]
    assert means[0] == pytest.approx(means[1], rel=0.1)


@pytest.mark.parametrize(
    "text", ["", "2", "2,8000", "2,8000,300,1", "x,8000,300", "0,8000,300", "-1,8000,300", "inf,1,1", "nan,1,1",
             "2,0,300", "2,9000/100,300", "2,99999999,1"],
)  # fmt: skip
def test_nonsense_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(SetupError) as raised:
        offered_load(text)
    assert "RATE,PROMPT,OUTPUT" in raised.value.remedy


def trace(times: list[float], prompt: int = 1_000) -> Trace:
    requests = tuple(
        TraceRequest(arrival_s=time, prompt_tokens=prompt, output_tokens=10 + place % 2)
        for place, time in enumerate(times)
    )
    return Trace(name="made", block_tokens=512, requests=requests)


def test_a_trace_is_its_rate_and_sizes() -> None:
    load = load_of_trace(trace([place * 0.5 for place in range(1_201)]))
    assert load.requests_per_s == pytest.approx(2.0, rel=0.01)
    assert [(one.prompt_tokens, one.share) for one in load.classes] == [(1_000, 1.0)]
    assert load.arrival_cv2 < 0.01, "as regular as a clock"


def test_bursts_are_seen() -> None:
    bursts = [window * 60.0 for window in range(20) for _ in range(30)]
    assert load_of_trace(trace(bursts)).arrival_cv2 == pytest.approx(15, rel=0.1)


def test_a_trace_of_one_moment_has_no_rate() -> None:
    with pytest.raises(SetupError, match="no rate"):
        load_of_trace(trace([0.0, 0.0]))


def test_a_level_is_what_is_named_and_else_the_usual() -> None:
    assert service_level(None) == ServiceLevel()
    assert service_level("ttft=1.5,itl=0.05") == ServiceLevel(ttft_s=1.5, itl_s=0.05)
    assert service_level("ttft-per-1k=0").ttft_s_per_1k_tokens == 0


@pytest.mark.parametrize("text", ["tpot=1", "ttft", "ttft=x", "itl=0", "ttft=-1", "ttft=inf"])
def test_a_level_without_sense_is_refused(text: str) -> None:
    with pytest.raises(SetupError):
        service_level(text)
