"""Plots are well-formed, hold their points, and say when there are none."""

from __future__ import annotations

from math import inf, nan
from xml.etree import ElementTree as ET

import pytest

from cluster.simulator.report.svg import Axis, Mark, Scale, Series, plot

SVG = "{http://www.w3.org/2000/svg}"
LINEAR, LOG = Axis(label="x & y"), Axis(label="s", is_log=True)


@pytest.mark.parametrize("mark", Mark)
@pytest.mark.parametrize("axis", [LINEAR, LOG])
def test_a_plot_is_well_formed_and_names_its_series(mark: Mark, axis: Axis) -> None:
    series = [Series(name=f"<{count}>", points=[(1.0, 2.0), (10.0, 0.5)], mark=mark) for count in range(5)]
    root = ET.fromstring(plot("a < b", axis, axis, series))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {"a < b", "<0>", "<4>", axis.label} <= set(texts)
    shapes = list(root.iter(f"{SVG}circle")) if mark is Mark.POINTS else root.findall(f"{SVG}path")[1:]
    assert len(shapes) == (10 if mark is Mark.POINTS else 5)


def test_what_cannot_be_drawn_is_left_out() -> None:
    points = [(0.0, 1.0), (1.0, inf), (2.0, nan), (3.0, 4.0)]
    root = ET.fromstring(plot("t", LOG, LINEAR, [Series(name="one", points=points, mark=Mark.POINTS)]))
    assert len(list(root.iter(f"{SVG}circle"))) == 1


def test_nothing_to_show_is_said() -> None:
    assert "nothing to show" in plot("t", LINEAR, LINEAR, [Series(name="none", points=[])])


def test_one_point_alone_is_a_plot() -> None:
    ET.fromstring(plot("t", LOG, LINEAR, [Series(name="one", points=[(1.0, 0.0)])]))


@pytest.mark.parametrize("is_log", [False, True])
def test_ticks_lie_on_the_axis_and_values_within_it(is_log: bool) -> None:
    scale = Scale(low=1.0, high=1000.0, begin=10.0, end=110.0, is_log=is_log)
    assert all(1.0 <= tick <= 1000.0 for tick in scale.ticks())
    assert 2 <= len(scale.ticks()) <= 8
    assert (scale.at(1.0), scale.at(1000.0), scale.at(5000.0)) == (10.0, 110.0, 110.0)
