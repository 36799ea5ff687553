"""The catalog of metrics: in step with the code, every label bounded, every unit told."""

from __future__ import annotations

import pytest

from services.gateway import metric_specs
from services.gateway.metric_kinds import Spec
from tests.metrics_page import PAGE, page_with_tables

SPECS: tuple[Spec, ...] = (*metric_specs.COUNTERS, *metric_specs.HISTOGRAMS, *metric_specs.GAUGES)
SUFFIXES = {"_seconds": "s", "_bytes": "By", "_tokens": "{token}", "_replicas": "{replica}"}


def test_the_page_is_in_step_with_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page_with_tables(text) == text, "run `python -m tests.metrics_page`"


def test_names_are_unique_and_each_spec_is_told() -> None:
    assert len({spec.name for spec in SPECS}) == len(SPECS)
    declared = {value.name for value in vars(metric_specs).values() if isinstance(value, Spec)}
    assert declared == {spec.name for spec in SPECS}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_metric_says_its_unit_and_what_bounds_its_labels(spec: Spec) -> None:
    assert set(spec.labels) <= metric_specs.LABELS.keys()
    assert len(spec.help) > 10
    for suffix, unit in SUFFIXES.items():
        if spec.name.endswith(suffix):
            assert spec.unit == unit
