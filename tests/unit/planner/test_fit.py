"""The fit finds the cost that made the times, and a calibration survives its file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.capacity.load import prefill_s
from cluster.core.capacity.step import StepCost, prefill_pairs
from cluster.core.errors import SetupError
from cluster.planner.calibration import calibration_of, read_calibration, write_calibration
from cluster.planner.fit import Observation, fit_cost

BATCH = 1_024
COST = StepCost(
    base_s=0.004, weights_s=0.1, token_s=0.002, attention_s=2e-7, context_token_s=1e-6, sequence_s=5e-4, request_s=0.006
)


def observations(cost: StepCost, overhead_s: float) -> tuple[Observation, ...]:
    """As measure.py makes them, of a replica that costs exactly so."""
    found = []
    for tokens in (128, 304, 724, 1_722, 4_096):
        full, rest = divmod(tokens, BATCH)
        found.append(
            Observation(
                name=f"prefill of {tokens}",
                steps=tuple((count, size) for count, size in ((full, BATCH), (1, rest)) if count and size),
                attended_tokens=prefill_pairs(0, tokens),
                context_tokens=0,
                decoded=0,
                begun=1,
                ways=1,
                seconds=prefill_s(cost, begin_tokens=0, end_tokens=tokens, batch_tokens=BATCH) + overhead_s,
            )
        )
    for size in (2, 4, 8, 16):
        pairs, tokens = size * prefill_pairs(0, 128), size * 128
        step_s = cost.step_s(prefill_tokens=tokens, attended_tokens=pairs, decoding=0, context_tokens=0, begun=size)
        found.append(
            Observation(
                name=f"prefill of {size} at once",
                steps=((1, tokens),),
                attended_tokens=pairs,
                context_tokens=0,
                decoded=0,
                begun=size,
                ways=1,
                seconds=step_s + overhead_s,
            )
        )
    for context in (150, 2_070):
        found += [
            Observation(
                name=f"decode of {size}",
                steps=((1, size),),
                attended_tokens=0,
                context_tokens=size * context,
                decoded=size,
                begun=0,
                ways=0,
                seconds=cost.step_s(prefill_tokens=0, attended_tokens=0, decoding=size, context_tokens=size * context),
            )
            for size in (1, 2, 4, 8, 16)
        ]
    return tuple(found)


@settings(max_examples=30, deadline=None)
@given(
    st.builds(
        StepCost,
        base_s=st.floats(1e-3, 0.02),
        weights_s=st.floats(5e-3, 0.3),
        token_s=st.floats(1e-5, 5e-3),
        attention_s=st.floats(0, 1e-6),
        context_token_s=st.floats(0, 1e-5),
        sequence_s=st.floats(0, 1e-3),
        request_s=st.floats(0, 0.02),
    ),
    st.floats(0, 0.05),
)
def test_exact_times_are_explained_exactly(cost: StepCost, overhead_s: float) -> None:
    found = fit_cost(observations(cost, overhead_s))
    assert found.worst_error_ratio < 0.02


def test_the_coefficients_are_found() -> None:
    found = fit_cost(observations(COST, 0.01))
    assert found.cost.weights_s + found.cost.base_s == pytest.approx(0.104, rel=1e-3)
    assert found.cost.token_s == pytest.approx(0.002, rel=1e-3)
    assert found.cost.sequence_s == pytest.approx(5e-4, rel=1e-2)
    assert found.cost.request_s == pytest.approx(0.006, rel=1e-2)
    assert found.overhead_s == pytest.approx(0.01, rel=1e-2)
    assert found.cost.attention_s == pytest.approx(2e-7, rel=1e-2)
    assert found.cost.context_token_s == pytest.approx(1e-6, rel=1e-2)


def test_noise_stays_in_the_errors() -> None:
    exact = observations(COST, 0.01)
    noisy = [replace(one, seconds=one.seconds * (1.1 if place % 2 else 0.9)) for place, one in enumerate(exact)]
    found = fit_cost(noisy)
    assert 0.02 < found.median_error_ratio < 0.15
    assert min(found.cost.base_s, found.cost.attention_s, found.cost.context_token_s, found.overhead_s) >= 0


def test_a_calibration_survives_its_file(tmp_path: Path) -> None:
    seen = observations(COST, 0.0)
    made = calibration_of(fit_cost(seen), seen, model="demo", gpu="CPU", ranks=1, batch_tokens=BATCH)
    write_calibration(tmp_path / "c.json", made)
    assert read_calibration(tmp_path / "c.json") == made
    assert made.measured.cost == made.cost


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"gpu": "Voodoo2"},
        {"cost": {"base_s": 1}},
        {"overhead_s": -1},
        {"observations": [{}]},
        {"ranks": "many"},
    ],
)
def test_files_that_are_no_calibration_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    seen = observations(COST, 0.0)
    path = tmp_path / "c.json"
    write_calibration(path, calibration_of(fit_cost(seen), seen, model="demo", gpu="CPU", ranks=1, batch_tokens=1))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(SetupError):
        read_calibration(path)
    with pytest.raises(SetupError, match="cannot be read"):
        read_calibration(tmp_path / "none.json")


def test_nothing_measured_is_no_fit() -> None:
    with pytest.raises(ValueError, match="no observations"):
        fit_cost([])
