"""Plots are well-formed, hold their points, and say when there are none."""

from __future__ import annotations

from math import inf, nan
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.plots.scale import Axis, Scale, scale_of
from cluster.plots.svg import Mark, Region, Series, plot

SVG = "{http://www.w3.org/2000/svg}"
LINEAR, LOG = Axis(label="x & y"), Axis(label="s", is_log=True)


def marks(root: ET.Element) -> list[ET.Element]:
    return [element for element in root.iter(f"{SVG}path") if "mark" in element.attrib.get("class", "").split()]


@pytest.mark.parametrize("mark", Mark)
@pytest.mark.parametrize("axis", [LINEAR, LOG])
def test_a_plot_is_well_formed_and_names_its_series(mark: Mark, axis: Axis) -> None:
    series = [Series(name=f"<{count}>", points=[(1.0, 2.0), (10.0, 0.5)], mark=mark) for count in range(5)]
    root = ET.fromstring(plot("a < b", axis, axis, series))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {"a < b", "<0>", "<4>", axis.label} <= set(texts)
    # One in the legend for each series, beside its points or its line.
    assert len(marks(root)) == 5 + (10 if mark in (Mark.POINTS, Mark.RINGS) else 5)


def test_what_cannot_be_drawn_is_left_out() -> None:
    points = [(0.0, 1.0), (1.0, inf), (2.0, nan), (3.0, 4.0)]
    root = ET.fromstring(plot("t", LOG, LINEAR, [Series(name="one", points=points, mark=Mark.POINTS)]))
    assert len(marks(root)) == 2


def test_nothing_to_show_is_said() -> None:
    assert "nothing to show" in plot("t", LINEAR, LINEAR, [Series(name="none", points=[])])


def test_one_point_alone_is_a_plot() -> None:
    ET.fromstring(plot("t", LOG, LINEAR, [Series(name="one", points=[(1.0, 0.0)])]))


@pytest.mark.parametrize("is_log", [False, True])
def test_ticks_lie_on_the_axis_and_values_within_it(is_log: bool) -> None:
    scale = Scale(low=1.0, high=1000.0, begin=10.0, end=110.0, is_log=is_log)
    assert all(1.0 <= tick <= 1000.0 for tick in scale.ticks())
    assert 2 <= len(scale.ticks()) <= 12
    assert (scale.at(1.0), scale.at(1000.0), scale.at(5000.0)) == (10.0, 110.0, 110.0)


@given(
    values=st.lists(st.floats(1e-4, 1e5), min_size=1, max_size=9),
    axis=st.builds(Axis, label=st.just("s"), is_log=st.booleans(), is_from_zero=st.booleans(), is_snug=st.booleans()),
)
def test_an_axis_holds_its_values_between_round_numbers(values: list[float], axis: Axis) -> None:
    scale = scale_of(values, axis, 0.0, 100.0)
    assert scale.low <= min(values) * (1 + 1e-6)
    assert scale.high >= max(values) * (1 - 1e-6)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 12
    assert ticks == sorted(set(ticks))
    assert all(-1e-6 <= scale.at(value) <= 100 + 1e-6 for value in values)


def test_a_logarithmic_axis_is_no_longer_than_its_values_need() -> None:
    scale = scale_of([0.21, 55.0], LOG, 0.0, 1.0)
    assert (scale.low, scale.high) == pytest.approx((0.2, 100.0))


def test_a_region_is_within_the_plot_and_in_the_legend() -> None:
    series = [Series(name="one", points=[(5.0, 9.0)], mark=Mark.POINTS)]
    root = ET.fromstring(plot("t", LOG, LOG, series, region=Region(name="the target", x=1.0, y=12.0)))
    first, sample = root.iter(f"{SVG}rect")
    assert 0 < float(first.attrib["width"]) < 600
    assert 0 < float(first.attrib["height"]) < 290
    assert float(sample.attrib["width"]) > 0
    assert "the target" in [element.text for element in root.iter(f"{SVG}text")]


def test_a_long_name_gets_a_wider_column() -> None:
    def places(length: int) -> set[str]:
        series = [Series(name=letter * length, points=[(1.0, 1.0)]) for letter in "abc"]
        root = ET.fromstring(plot("t", LINEAR, LINEAR, series))
        return {
            element.attrib["x"] for element in root.iter(f"{SVG}text") if element.text in {"a" * length, "b" * length}
        }

    assert [len(places(length)) for length in (10, 40, 60)] == [2, 2, 1]
