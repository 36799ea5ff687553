"""The dashboards: in step with their description, complete, and naming only what exists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kubernetes.monitoring.dashboards import DASHBOARDS as FILES
from cluster.kubernetes.monitoring.generate import DASHBOARD_FOLDER as FOLDER
from cluster.kubernetes.monitoring.generate import generated
from cluster.kubernetes.monitoring.rules.thresholds import THRESHOLDS
from tests.kubernetes import promtool
from tests.kubernetes.checks import mistakes
from tests.kubernetes.test_rules import RECORDED, program  # noqa: F401 - a fixture

BODIES: dict[str, dict[str, Any]] = {
    name: json.loads((FOLDER / name).read_text(encoding="utf-8")) for name in sorted(FILES)
}
CONFIG_MAP_BYTES = 1024 * 1024
"""What Kubernetes takes; a page is one key of one ConfigMap."""


def panels(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in body["panels"]:
        yield from (inner for inner in [panel, *panel.get("panels", [])] if inner["type"] != "row")


ALL = [(name, panel) for name, body in BODIES.items() for panel in panels(body)]
IDS = [f"{name}-{panel['title']}" for name, panel in ALL]


def filled_in(expr: str) -> str:
    """As Grafana would send it."""
    values = {
        "$__rate_interval": "5m",
        "$namespace": "ns",
        "$release": "r",
        **dict.fromkeys(("$pool", "$replica", "$tenant"), ".*"),
    }
    for name, value in values.items():
        expr = expr.replace(name, value)
    return expr


def test_the_folder_holds_them_and_nothing_else() -> None:
    """The chart makes a ConfigMap of every file here."""
    assert {path.name for path in FOLDER.iterdir()} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_files_are_in_step_with_their_description(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert text == generated()[FOLDER / name], "run `make dashboards`"
    assert len(text.encode()) < CONFIG_MAP_BYTES / 4


@pytest.mark.parametrize("name", FILES)
def test_one_page_shows_one_release(name: str) -> None:
    body = BODIES[name]
    variables = body["templating"]["list"]
    assert [variable["name"] for variable in variables[:3]] == ["datasource", "namespace", "release"]
    assert [variable["name"] for variable in variables[3:-1]] == [choice.label for choice in FILES[name].choices]
    assert variables[-1] == variables[-1] | {"name": "runbooks", "type": "textbox", "query": "RUNBOOK_BASE_URL"}
    queries = [variable["query"] for variable in variables[1:-1]]
    for query in queries:
        expr = re.fullmatch(r"label_values\((.*), (\w+)\)", filled_in(query["query"]))
        assert expr is not None
        metric = expr[1] if "{" in expr[1] else f"{expr[1]}{{}}"
        assert [line for line in mistakes(f"sum by ({expr[2]}) ({metric})", set()) if "any release" not in line] == []
    numbers = [panel["id"] for panel in body["panels"]] + [
        inner["id"] for panel in body["panels"] for inner in panel.get("panels", [])
    ]
    assert len(numbers) == len(set(numbers))
    assert body["uid"].startswith("longreach-")
    assert len({body["uid"] for body in BODIES.values()}) == len(BODIES)


def test_panels_do_not_overlap() -> None:
    for body in BODIES.values():
        taken: set[tuple[int, int]] = set()
        for panel in body["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, panel["title"]
            taken |= cells


@pytest.mark.parametrize(("name", "panel"), ALL, ids=IDS)
def test_a_panel_says_what_it_shows(name: str, panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert mistakes(filled_in(target["expr"]), RECORDED) == []
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        grouped = re.match(r"(?:1 - |1048576 \* )?(?:histogram_quantile\([\d.]+, )?\w+ by \(([^)]*)\)", target["expr"])
        if grouped is not None:
            kept = {label.strip() for label in grouped[1].split(",")}
            assert named <= kept, "a legend names what was summed away"


def test_alerts_that_panels_name_exist() -> None:
    rules = (FOLDER.parent / "rules" / "longreach.yaml").read_text(encoding="utf-8")
    named = {name for _, panel in ALL for name in re.findall(r"\bLongreach[A-Z]\w+", panel["description"])}
    assert named
    assert {name for name in named if f"alert: {name}\n" not in rules} == set()


def test_panels_link_to_the_runbooks_of_the_alerts_they_name() -> None:
    runbooks = {page.name for page in (FOLDER.parents[3] / "docs" / "runbooks").glob("*.md")}
    linked = {link["url"] for _, panel in ALL for link in panel["links"]}
    assert len(linked) > 15
    assert {url.removeprefix("${runbooks}/") for url in linked} <= runbooks


def test_every_alert_that_can_be_seen_is_on_a_page() -> None:
    """A reader who was called finds the picture by the alert's name."""
    rules = (FOLDER.parent / "rules" / "longreach.yaml").read_text(encoding="utf-8")
    named = {name for _, panel in ALL for name in re.findall(r"\bLongreach[A-Z]\w+", panel["description"])}
    assert set(re.findall(r"alert: (\w+)\n", rules)) - named == set()


def test_lines_are_where_alerts_fire() -> None:
    """Whatever the number is now: both come from one table."""
    drawn = {
        step["value"]
        for _, panel in ALL
        for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        if step["value"] is not None
    }
    shown = ("queue_wait_s", "attempts_failing_ratio", "kv_use_ratio", "directory_age_s", "prediction_ratio")
    assert {THRESHOLDS[name].value for name in shown} <= drawn


def test_expressions_parse(program: Path, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    rules = [
        {"record": f"panel:number{index}", "expr": filled_in(target["expr"])}
        for index, target in enumerate(target for _, panel in ALL for target in panel["targets"])
    ]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool.run(program, "check", "rules", "panels.yaml", folder=tmp_path)
