from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.errors import SetupError
from loadtest.arrivals import Bursts, Ramp, Spacing, Steady
from loadtest.client.aim import Aim, read_keys
from loadtest.client.coordinator import Rules, arguments_of
from loadtest.client.job import Job, Times, pace_of, parts_for, sessions_of, times_of
from loadtest.client.runner import Pace
from loadtest.scenarios import find_scenario

CHAT = find_scenario("short-chat")
JOB = Job(
    name="lt",
    scenario="short-chat",
    aim=Aim(url="http://gateway", model="tiny", api_key="lr-secret", keys={"gold": "lr-gold"}),
    pace=Pace(duration_s=3.0),
    times=Times(course=Steady(rate_per_s=20)),
)


def test_processes_share_a_runs_sessions() -> None:
    whole = dict(sessions_of(JOB))
    parts = [dict(sessions_of(replace(JOB, part=part, parts=3))) for part in range(3)]
    assert whole == parts[0] | parts[1] | parts[2]
    assert sum(map(len, parts)) == len(whole) > 10
    assert all(session.at_s < 3.0 for session in whole.values())


def test_a_seed_is_a_run_and_a_salt_other_words() -> None:
    again, salted = dict(sessions_of(JOB)), dict(sessions_of(replace(JOB, salt="x")))
    assert again == dict(sessions_of(JOB))
    assert [one.at_s for one in salted.values()] == [one.at_s for one in again.values()]
    assert salted[0].turns[0].text != again[0].turns[0].text
    assert dict(sessions_of(replace(JOB, seed=2))) != again


def test_a_closed_loop_has_sessions_without_end() -> None:
    sessions = sessions_of(replace(JOB, pace=Pace(duration_s=3.0, concurrency=2), sessions_max=500))
    assert {session.at_s for _, session in sessions} == {0.0}


def test_a_trace_gives_its_times(tmp_path: Path) -> None:
    trace = tmp_path / "azure.csv"
    lines = [f"2024-05-10 00:00:{second:02}.0000000,10,5" for second in (1, 3, 9)]
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]) + "\n")
    job = replace(JOB, times=Times(trace=trace, speed=2.0), pace=Pace(duration_s=math.inf))
    assert [session.at_s for _, session in sessions_of(job)] == [0.0, 1.0, 4.0]


def test_times_are_the_scenarios_unless_asked_for_otherwise() -> None:
    assert times_of(CHAT, None, None, 60) == Times(course=Steady(rate_per_s=CHAT.arrivals.rate_per_s))
    assert times_of(CHAT, None, 7.0, 60) == Times(course=Steady(rate_per_s=7))
    assert times_of(CHAT, "constant", 7.0, 60) == Times(course=Steady(rate_per_s=7), spacing=Spacing.CONSTANT)
    ramp = find_scenario("ramp")
    assert times_of(ramp, None, None, 60).course == Ramp(first_per_s=0.5, last_per_s=20, over_s=60)
    burst = times_of(find_scenario("idle-burst"), None, None, 60).course
    assert isinstance(burst, Bursts)
    # The rate in the mean is the scenario's.
    assert burst.rate_per_s * burst.on_s / (burst.on_s + burst.off_s) == pytest.approx(0.1)
    assert times_of(find_scenario("trace"), None, None, 60).course is None


def test_times_that_mean_nothing_are_refused() -> None:
    with pytest.raises(SetupError, match="none of"):
        times_of(CHAT, "sometimes", None, 60)


def test_arguments_hold_no_secret() -> None:
    told = arguments_of(JOB, Rules())
    assert "lr-" not in repr(told)
    assert "lr-" not in repr(JOB)
    assert (told["tenants"], told["seed"], told["course"]) == (["gold"], 1, {"kind": "steady", "rate_per_s": 20})


@pytest.mark.parametrize(
    ("times", "concurrency", "parts"),
    [
        (Times(course=Steady(rate_per_s=1)), 0, 1),
        (Times(course=Steady(rate_per_s=250)), 0, 3),
        (Times(course=Ramp(first_per_s=1, last_per_s=450, over_s=60)), 0, 5),
        (Times(course=Bursts(rate_per_s=9000, on_s=1, off_s=9)), 0, 7),
        (Times(), 0, 1),
        (Times(course=Steady(rate_per_s=1)), 1000, 4),
    ],
)
def test_processes_follow_load_and_cores(times: Times, concurrency: int, parts: int) -> None:
    assert parts_for(times, concurrency, 8) == parts
    assert parts_for(times, concurrency, 1) == 1


@given(st.integers(1, 100), st.integers(1, 8))
def test_processes_share_what_goes_on_at_once(concurrency: int, parts: int) -> None:
    shares = [
        pace_of(replace(JOB, pace=Pace(concurrency=concurrency), part=part, parts=parts)).concurrency
        for part in range(parts)
    ]
    assert sum(shares) == concurrency
    assert max(shares) - min(shares) <= 1


def test_keys_by_tenant_are_read(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("gold: lr-a\nbronze: lr-b\n")
    assert read_keys(file) == {"gold": "lr-a", "bronze": "lr-b"}


@pytest.mark.parametrize("text", ["", "[]", "gold: 3", "gold: [lr-secret", "gold: 'lr-\u00e9'", "gold: {a: b}"])
def test_other_files_are_refused_without_quoting_them(text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(text)
    with pytest.raises(SetupError, match=r"keys\.yaml") as caught:
        read_keys(file)
    assert "lr-" not in str(caught.value)
