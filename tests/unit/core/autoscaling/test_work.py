"""What a replica counts of its work, and how it is read by another version."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cluster.core.autoscaling.speed import SpeedCounters
from cluster.core.autoscaling.work import ReplicaWork, WorkMeter


def meter(*, uncomputed_tokens: int = 0) -> WorkMeter:
    made = WorkMeter()
    made.uncomputed_tokens = lambda: uncomputed_tokens
    return made


def test_a_prompt_and_its_answer() -> None:
    found = meter(uncomputed_tokens=1000)
    found.arrived(100.0, is_alone=True)
    # Two steps at the prompt, of which the second completes it; then two tokens more.
    found.stepped(100.5, prefilling=1, decoding=0, computed_tokens=0, prompt_tokens=0)
    found.uncomputed_tokens = lambda: 0
    found.stepped(101.0, prefilling=1, decoding=0, computed_tokens=900, prompt_tokens=1000)
    found.stepped(101.1, prefilling=0, decoding=1, computed_tokens=0, prompt_tokens=0)
    found.stepped(101.2, prefilling=0, decoding=1, computed_tokens=0, prompt_tokens=0)
    counted = found.work().counters
    assert (counted.prefill_tokens, counted.decode_tokens) == (900, 2)
    assert counted.prefill_busy_s == pytest.approx(1.0)
    assert counted.prefill_token_s == pytest.approx(1000.0)
    assert counted.decode_busy_s == pytest.approx(0.2)
    assert counted.decode_sequence_s == pytest.approx(0.2)


def test_time_without_work_is_no_work() -> None:
    found = meter()
    found.arrived(0.0, is_alone=True)
    found.stepped(1.0, prefilling=1, decoding=0, computed_tokens=10, prompt_tokens=10)
    found.arrived(500.0, is_alone=True)
    # Somebody beside it: the step that is under way goes on counting.
    found.arrived(500.5, is_alone=False)
    found.stepped(501.0, prefilling=2, decoding=0, computed_tokens=20, prompt_tokens=20)
    assert found.work().counters.prefill_busy_s == pytest.approx(2.0)


def test_a_mixed_step_is_both() -> None:
    found = meter()
    found.arrived(0.0, is_alone=True)
    found.stepped(2.0, prefilling=1, decoding=3, computed_tokens=50, prompt_tokens=60)
    counted = found.work().counters
    assert (counted.prefill_busy_s, counted.decode_busy_s, counted.decode_sequence_s) == (2.0, 2.0, 6.0)
    assert counted.decode_blocked_s == 2.0


def test_it_survives_the_lease() -> None:
    work = ReplicaWork(counters=SpeedCounters(prefill_tokens=7, decode_busy_s=0.5), kv_tokens=4096, startup_s=21.5)
    work = replace(work, resident_tokens=77)
    assert ReplicaWork.from_dict(work.to_dict()) == work


@pytest.mark.parametrize(
    "data", [{"prefill_tokens": "many"}, {"prefill_busy_s": math.nan}, {"kv_tokens": -1}, {"decode_tokens": None}]
)
def test_what_another_version_may_mean_by_it_is_not_guessed(data: dict[str, object]) -> None:
    assert ReplicaWork.from_dict(data) is None


def test_fields_of_another_version() -> None:
    assert ReplicaWork.from_dict(None) is None
    assert ReplicaWork.from_dict({}) == ReplicaWork(counters=SpeedCounters())
    found = ReplicaWork.from_dict({"kv_tokens": 5, "of_tomorrow": [1]})
    assert found is not None
    assert found.kv_tokens == 5
