"""What Helm makes of the dashboards and rules: the files, with where runbooks are, the release, and thresholds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from cluster.kubernetes.monitoring.generate import DASHBOARD_FOLDER
from tests.kubernetes import promtool
from tests.kubernetes.cases import EVERYTHING, merged
from tests.kubernetes.render import Renderer
from tests.kubernetes.test_rules import ALERTS, EVERY, program  # noqa: F401 - a fixture

BASE = "https://example.test/runbooks"
VALUES = merged(
    EVERYTHING, {"monitoring": {"prometheusRule": {"runbookUrl": f"{BASE}/", "thresholds": {"queue_wait_s": 12.5}}}}
)


def test_each_dashboard_is_a_config_map_of_its_own_and_links_to_where_runbooks_are(render: Renderer) -> None:
    shown: dict[str, dict[str, Any]] = {}
    for one in render(VALUES).by_kind("ConfigMap"):
        if one.component == "dashboards":
            assert one.labels["grafana_dashboard"] == "1"
            shown |= {name: json.loads(text) for name, text in one.body["data"].items()}
    assert shown.keys() == {path.name for path in DASHBOARD_FOLDER.iterdir()}
    for name, body in shown.items():
        as_shipped = (DASHBOARD_FOLDER / name).read_text(encoding="utf-8")
        assert body == json.loads(as_shipped.replace("RUNBOOK_BASE_URL", BASE))
        (runbooks,) = [one for one in body["templating"]["list"] if one["name"] == "runbooks"]
        assert runbooks["query"] == BASE


def test_rules_are_the_releases_own_with_its_thresholds(
    render: Renderer,
    program: Path,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    rule = render(VALUES, release="lr").one("PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule.spec), encoding="utf-8")
    said = promtool.run(program, "check", "rules", "rules.yaml", folder=tmp_path)
    assert f"SUCCESS: {len(EVERY)} rules found" in said
    rules = {one.get("alert"): one for group in rule.spec["groups"] for one in group["rules"]}
    assert rules.keys() - {None} == ALERTS.keys()
    assert all('release="lr"' in one["expr"] for one in rules.values())
    assert "> 12.5 # threshold: queue_wait_s" in rules["LongreachQueueWaitLong"]["expr"]
    for name in ALERTS:
        assert rules[name]["annotations"]["runbook_url"] == f"{BASE}/{name}.md"
