"""Heat maps."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from cluster.plots.heat import heat_map


def test_cells_have_numbers_and_their_own_grounds() -> None:
    cells = {("a", "x"): (0.0, "0/2"), ("a", "y"): (0.5, "1/2"), ("b", "y"): (1.0, "<2/2>")}
    drawn = ET.fromstring(
        heat_map("Title & more", columns=["x", "y"], rows=["a", "b"], cells=cells, across="length", down="depth")
    )
    name = "{http://www.w3.org/2000/svg}"
    assert [one.get("fill") for one in drawn.iter(f"{name}rect")] == ["#d55e00", "#f0e442", "#009e73"]
    texts = [one.text for one in drawn.iter(f"{name}text")]
    assert {"Title & more", "a", "b", "x", "y", "length", "depth", "0/2", "1/2", "<2/2>"} <= {*texts}
