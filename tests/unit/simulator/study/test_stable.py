"""The largest rate a system keeps up with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.simulator.outcome import Fate, Outcomes, Result
from cluster.simulator.study.stable import stability_of, stable_maximum


def line(service_s: float, *, requests: int = 400, refused: int = 0) -> Result:
    """One server that takes so long for a request; one comes every second."""
    outcomes = Outcomes([float(at) for at in range(requests)], [100] * requests)
    free_s = 0.0
    for number in range(requests):
        begin_s = max(free_s, float(number))
        free_s = begin_s + service_s
        outcomes.first_token_s[number] = outcomes.ended_s[number] = free_s
        outcomes.fate[number] = Fate.QUEUE_FULL if number < refused else Fate.DONE
    return Result(
        trace="line", router="fifo", seed=0, outcomes=outcomes, pools={}, sizes=(), decisions=(), ended_s=free_s,
        events=0, wall_s=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("service_s", "grows", "is_stable"), [(0.5, 0.0, True), (1.0, 0.0, True), (1.1, 0.0909, False)]
)
def test_a_line_in_front_of_a_slow_server_grows_by_what_is_missing(
    service_s: float, grows: float, is_stable: bool
) -> None:
    stability = stability_of(line(service_s))
    assert stability.growth_ratio == pytest.approx(grows, abs=0.005)
    assert stability.is_stable is is_stable


def test_refusing_is_not_keeping_up() -> None:
    assert stability_of(line(0.5, refused=4)).is_stable
    assert not stability_of(line(0.5, refused=5)).is_stable


@pytest.mark.parametrize("limit", [0.011, 0.2, 0.25, 0.9, 1.0, 3.7, 50.0])
def test_bisection_finds_the_limit(limit: float) -> None:
    found = stable_maximum(lambda factor: factor <= limit)
    assert found.factor <= limit < found.unstable_factor
    assert found.unstable_factor / found.factor <= 1.03


def test_a_system_that_never_keeps_up_has_no_maximum() -> None:
    assert stable_maximum(lambda _: False).factor == 0.0


def test_a_trace_that_is_no_load_is_said() -> None:
    with pytest.raises(ValueError, match="fewer replicas"):
        stable_maximum(lambda _: True)


def test_a_run_without_requests_is_stable() -> None:
    assert stability_of(line(1.0, requests=0)).is_stable


def test_the_order_in_which_a_backlog_is_served_does_not_hide_it() -> None:
    """Latest first: whoever came early waits for the end, and waits get shorter from arrival to arrival."""
    outcomes = Outcomes([float(at) for at in range(400)], [100] * 400)
    waiting: list[int] = []
    now_s, coming = 0.0, 0
    while coming < 400 or waiting:
        while coming < 400 and coming <= now_s:
            waiting.append(coming)
            coming += 1
        now_s = max(now_s, float(coming) if not waiting else 0.0) + 1.25
        if waiting:
            number = waiting.pop()
            outcomes.first_token_s[number] = outcomes.ended_s[number] = now_s
            outcomes.fate[number] = Fate.DONE
    run = line(1.0)
    stability = stability_of(replace(run, outcomes=outcomes))
    assert stability.growth_ratio == pytest.approx(0.2, abs=0.01)
    assert not stability.is_stable
