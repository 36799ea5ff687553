"""The alert rules: they parse, name what exists, fire when they should and only then, and each has its page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kubernetes.monitoring.generate import generated
from cluster.kubernetes.monitoring.rules.thresholds import THRESHOLDS
from tests.kubernetes import promtool
from tests.kubernetes.checks import mistakes

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "helm" / "longreach" / "rules" / "longreach.yaml"
CASES = Path(__file__).with_name("rules_test.yaml")
RUNBOOKS = ROOT / "docs" / "runbooks"
MONITORING = ROOT / "docs" / "monitoring.md"
TEXT = RULES.read_text(encoding="utf-8")
GROUPS: list[dict[str, Any]] = yaml.safe_load(TEXT)["groups"]
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule
}
EVERY = [rule for group in GROUPS for rule in group["rules"]]
RECORDED = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}
SELECTOR = 'release=~".+"'
THRESHOLD = re.compile(r"([0-9.]+) # threshold: (\w+)$", re.MULTILINE)
HEADINGS = ("## What it means", "## What users see", "## First look", "## Causes and remedies")


@pytest.fixture(scope="session")
def program() -> Path:
    try:
        return promtool.program_of_prometheus("promtool")
    except promtool.UnreachableError as error:
        pytest.skip(f"no promtool: {error}")


def test_the_file_is_in_step_with_its_description() -> None:
    assert generated()[RULES] == TEXT, "run `make dashboards`"
    assert {name: float(value) for value, name in THRESHOLD.findall(TEXT)} == {
        name: threshold.value for name, threshold in THRESHOLDS.items()
    }


def as_the_chart_does(text: str, *, namespace: str, release: str, runbooks: str, thresholds: dict[str, str]) -> str:
    """What templates/monitoring does with the file, in Python."""
    text = text.replace(SELECTOR, f'namespace="{namespace}", release="{release}"').replace("RUNBOOK_BASE_URL", runbooks)
    for name, value in thresholds.items():
        text = re.sub(rf"[0-9.]+ # threshold: {name}(?m:$)", f"{value} # threshold: {name}", text)
    return text


def test_they_parse_as_they_are(program: Path) -> None:
    said = promtool.run(program, "check", "rules", str(RULES), folder=ROOT)
    assert f"SUCCESS: {len(ALERTS) + len(RECORDED)} rules found" in said


def test_they_parse_as_the_chart_renders_them(program: Path, tmp_path: Path) -> None:
    names = {name for _, name in THRESHOLD.findall(TEXT)}
    text = as_the_chart_does(
        TEXT, namespace="ai", release="lr", runbooks="https://example.test", thresholds=dict.fromkeys(names, "7.5")
    )
    (tmp_path / "rules.yaml").write_text(text, encoding="utf-8")
    promtool.run(program, "check", "rules", "rules.yaml", folder=tmp_path)
    assert {value for value, _ in THRESHOLD.findall(text)} == {"7.5"}
    assert "RUNBOOK_BASE_URL" not in text
    assert SELECTOR not in text
    for group in yaml.safe_load(text)["groups"]:
        for rule in group["rules"]:
            found = re.findall(r"\{([^{}]*)\}", rule["expr"])
            assert found, rule
            assert all('namespace="ai", release="lr"' in matchers for matchers in found), rule


def test_they_fire_when_they_should_and_only_then(program: Path, tmp_path: Path) -> None:
    stripped = yaml.safe_load(TEXT)
    for group in stripped["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)  # promtool compares them word by word
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(stripped), encoding="utf-8")
    shutil.copy(CASES, tmp_path)
    promtool.run(program, "test", "rules", CASES.name, folder=tmp_path)


def test_every_alert_is_seen_firing_and_quiet() -> None:
    cases = yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]
    fires = {part["alertname"] for case in cases for part in case["alert_rule_test"] if part["exp_alerts"]}
    quiet = {name for case in cases for name in ALERTS if name in case["name"] and "quiet" in case["name"]}
    assert fires == set(ALERTS)
    assert quiet == set(ALERTS)


def test_what_people_read_has_its_values(program: Path, tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path / "rules.yaml")
    labels = 'namespace="ns", release="r", pool="long", replica="a", engine="0", model_name="m"'
    full = {
        "exp_labels": {"severity": "warning", "namespace": "ns", "release": "r", "pool": "long"},
        "exp_annotations": {
            "summary": "KV cache is full and engines preempt",
            "description": "ns/r pool long: 97% of the KV cache is in use, and sequences are thrown out and computed "
            "again.",
            "runbook_url": "RUNBOOK_BASE_URL/LongreachKvCacheFull.md",
        },
    }
    case = {
        "rule_files": ["rules.yaml"],
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": f"vllm:kv_cache_usage_perc{{{labels}}}", "values": "0.97x60"},
                    {"series": f"vllm:num_preemptions_total{{{labels}}}", "values": "0+30x60"},
                ],
                "alert_rule_test": [{"eval_time": "40m", "alertname": "LongreachKvCacheFull", "exp_alerts": [full]}],
            }
        ],
    }
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(case), encoding="utf-8")
    promtool.run(program, "test", "rules", "case.yaml", folder=tmp_path)


@pytest.mark.parametrize("rule", EVERY, ids=lambda rule: str(next(iter(rule.values()))))
def test_they_name_only_what_exists(rule: dict[str, Any]) -> None:
    assert mistakes(rule["expr"], RECORDED) == []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_enough(name: str) -> None:
    rule = ALERTS[name]
    assert name.startswith("Longreach")
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook_url"}
    assert said["runbook_url"] == f"RUNBOOK_BASE_URL/{name}.md"
    assert "{{ $labels.namespace }}/{{ $labels.release }}" in said["description"]
    page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    assert [line for line in page.splitlines() if line.startswith("## ")] == list(HEADINGS)
    look = page.split("## First look")[1].split("## Causes")[0]
    assert "\n    " in look, "the first look is exact commands"


@pytest.mark.parametrize("name", ALERTS)
def test_a_page_asks_only_what_exists(name: str, program: Path, tmp_path: Path) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    asked = re.findall(r"^ {4}promql: (.*)$", page, re.MULTILINE)
    assert [line for expr in asked for line in mistakes(expr.replace('"POOL"', '"short"'), RECORDED)] == []
    if asked:
        rules = [{"record": f"page:number{index}", "expr": expr} for index, expr in enumerate(asked)]
        (tmp_path / "page.yaml").write_text(yaml.safe_dump({"groups": [{"name": "page", "rules": rules}]}))
        promtool.run(program, "check", "rules", "page.yaml", folder=tmp_path)


def test_every_page_has_an_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)
    listed = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    assert {name for name in ALERTS if f"({name}.md)" in listed} == set(ALERTS)


def test_monitoring_md_lists_alerts_and_thresholds() -> None:
    text = MONITORING.read_text(encoding="utf-8")
    for name, rule in ALERTS.items():
        assert f"[{name}](runbooks/{name}.md) | {rule['labels']['severity']} | {rule['for']} |" in text, name
    defaults = {name: value for value, name in THRESHOLD.findall(TEXT)}
    for value, name in THRESHOLD.findall(TEXT):
        assert defaults[name] == value, f"{name} has two defaults"
        assert f"| `{name}` | {value} | {THRESHOLDS[name].of} |" in text, name


def test_helm_leaves_them_alone() -> None:
    """`{{` of Prometheus must not be in a place where Helm would be asked to fill it in."""
    assert all("{{" not in str(rule["expr"]) for group in GROUPS for rule in group["rules"])
