"""The judgement of life and death, for every evidence there is."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from cluster.core.liveness import IDLE_S, STOPPED_S, SUSPECT_S, Evidence, Health, judge

AGES = st.floats(0, 10_000)
EVIDENCE = st.builds(Evidence, ping_age_s=AGES, stopped=st.booleans(), idle_s=AGES)
LIMITS = st.floats(SUSPECT_S, 3600)
WORSE = {Health.ALIVE: 0, Health.BUSY: 1, Health.STALLED: 2}


def sickness(evidence: Evidence, stall_s: float) -> int:
    return WORSE[judge(evidence, stall_s=stall_s).health]


@given(evidence=EVIDENCE, more_s=AGES, stall_s=LIMITS)
def test_waiting_longer_never_makes_it_healthier(evidence: Evidence, more_s: float, stall_s: float) -> None:
    later = dataclasses.replace(evidence, ping_age_s=evidence.ping_age_s + more_s)
    assert sickness(later, stall_s) >= sickness(evidence, stall_s)


@given(evidence=EVIDENCE, more_s=AGES, stall_s=LIMITS)
def test_being_idle_longer_never_makes_it_healthier(evidence: Evidence, more_s: float, stall_s: float) -> None:
    later = dataclasses.replace(evidence, idle_s=evidence.idle_s + more_s)
    assert sickness(later, stall_s) >= sickness(evidence, stall_s)


@given(evidence=EVIDENCE, stall_s=LIMITS)
def test_a_stopped_process_never_makes_it_healthier(evidence: Evidence, stall_s: float) -> None:
    stopped = dataclasses.replace(evidence, stopped=True)
    running = dataclasses.replace(evidence, stopped=False)
    assert sickness(stopped, stall_s) >= sickness(running, stall_s)


@given(evidence=EVIDENCE, stall_s=LIMITS, more_s=st.floats(0, 3600))
def test_a_longer_limit_never_makes_it_sicker(evidence: Evidence, stall_s: float, more_s: float) -> None:
    assert sickness(evidence, stall_s + more_s) <= sickness(evidence, stall_s)


@given(age=st.floats(0, min(STOPPED_S, SUSPECT_S), exclude_max=True), stopped=st.booleans(), idle=AGES, stall_s=LIMITS)
def test_nothing_is_held_against_a_short_step(age: float, stopped: bool, idle: float, stall_s: float) -> None:
    verdict = judge(Evidence(ping_age_s=age, stopped=stopped, idle_s=idle), stall_s=stall_s)
    assert verdict.health is Health.ALIVE


@given(evidence=EVIDENCE, stall_s=LIMITS)
def test_over_the_limit_is_always_stalled(evidence: Evidence, stall_s: float) -> None:
    over = dataclasses.replace(evidence, ping_age_s=max(evidence.ping_age_s, stall_s))
    assert judge(over, stall_s=stall_s).health is Health.STALLED


@given(age=AGES, idle=st.floats(0, IDLE_S, exclude_max=True), stall_s=LIMITS)
def test_a_running_engine_that_computes_has_until_the_limit(age: float, idle: float, stall_s: float) -> None:
    verdict = judge(Evidence(ping_age_s=age, stopped=False, idle_s=idle), stall_s=stall_s)
    assert (verdict.health is Health.STALLED) == (age >= stall_s)


@given(evidence=EVIDENCE, stall_s=LIMITS)
def test_every_verdict_has_a_reason(evidence: Evidence, stall_s: float) -> None:
    assert judge(evidence, stall_s=stall_s).reason
