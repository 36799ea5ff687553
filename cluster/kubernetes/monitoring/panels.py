"""Grafana's JSON from a short description: rows of panels that lay themselves out.

A panel without unit, description or legend cannot be described. Alerts that a description names become links to their
runbooks. What must not live here: what is shown (dashboards/).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

COLUMNS = 24
"""Grafana's grid."""
PANEL_HEIGHT = 8
STAT_HEIGHT = 4
SCHEMA_VERSION = 39
"""Of Grafana 11, which newer ones read."""
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
MARK = re.compile(r"\$([SPRT])\b")
OF_RELEASE = 'namespace="$namespace", release="$release"'
OF_POOL = f'{OF_RELEASE}, pool=~"$pool"'
MATCHERS = {
    "S": OF_RELEASE,
    "P": OF_POOL,
    "R": f'{OF_POOL}, replica=~"$replica"',
    "T": f'{OF_RELEASE}, tenant=~"$tenant"',
}
"""What a query's marks stand for: one release, its chosen pools, their chosen replicas, its chosen tenants."""
ALERT = re.compile(r"\bLongreach[A-Z]\w+")
RUNBOOKS = "RUNBOOK_BASE_URL"
"""What the chart's template replaces by where docs/runbooks is."""


class Unit(StrEnum):
    """How Grafana writes a number."""

    REQUESTS_PER_S = "reqps"
    PER_S = "cps"
    TOKENS_PER_S = "tokens/s"
    TOKENS = "tokens"
    SECONDS = "s"
    MILLISECONDS = "ms"
    RATIO = "percentunit"
    PERCENT = "percent"
    BYTES = "bytes"
    BYTES_PER_S = "Bps"
    COUNT = "short"
    CELSIUS = "celsius"
    WATTS = "watt"

    @property
    def grafana(self) -> str:
        """Grafana's own id for it."""
        return {"tokens/s": "suffix: tok/s", "tokens": "suffix: tok"}.get(self.value, self.value)


class Kind(StrEnum):
    """What a panel draws."""

    LINES = "timeseries"
    NUMBER = "stat"
    STATES = "state-timeline"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression; its marks are in `MATCHERS`."""

    expr: str
    legend: str

    @property
    def promql(self) -> str:
        """With Grafana's own variables left in."""
        return MARK.sub(lambda found: MATCHERS[found[1]], self.expr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture."""

    title: str
    description: str
    unit: Unit
    queries: Sequence[Query]
    kind: Kind = Kind.LINES
    width: int = 8
    is_stacked: bool = False
    alarm: float | None = None
    """From here on red."""
    alarm_below: bool = False
    """Red up to there instead."""
    texts: dict[int, str] = field(default_factory=dict)
    """What numbers mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]
    is_collapsed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a reader picks on top of a page, any number of them; `label` is the variable's name too."""

    label: str
    metric: str
    """A metric whose label of this name has them all."""
    within: str = OF_RELEASE

    def variable(self) -> dict[str, Any]:
        """In Grafana's form."""
        query = f"label_values({self.metric}{{{self.within}}}, {self.label})"
        return _values(self.label, self.label.capitalize(), query) | {
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A page."""

    uid: str
    title: str
    description: str
    home: str
    """A metric that every release has: where namespaces and releases are read from."""
    choices: Sequence[Choice]
    rows: Sequence[Row]

    def json(self) -> str:
        """The file's text."""
        return json.dumps(self._body(), indent=1, ensure_ascii=False) + "\n"

    def _body(self) -> dict[str, Any]:
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["longreach"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "timezone": "browser",
            "annotations": {"list": []},
            "links": [
                {
                    "type": "dashboards",
                    "title": "Longreach",
                    "tags": ["longreach"],
                    "asDropdown": True,
                    "includeVars": True,
                    "keepTime": True,
                }
            ],
            "templating": {"list": self._variables()},
            "panels": list(self._laid_out()),
        }

    def _variables(self) -> list[dict[str, Any]]:
        source = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}
        return [
            source,
            _values("namespace", "Namespace", f"label_values({self.home}, namespace)"),
            _values("release", "Release", f'label_values({self.home}{{namespace="$namespace"}}, release)'),
            *(choice.variable() for choice in self.choices),
            # Hidden: an operator who imports the file sets it once, under Settings, Variables.
            {"type": "textbox", "name": "runbooks", "label": "Runbooks", "query": RUNBOOKS, "hide": 2},
        ]

    def _laid_out(self) -> Any:
        number, top = 1, 0
        for row in self.rows:
            panels: list[dict[str, Any]] = []
            left, height, first = 0, 0, top + 1
            for panel in row.panels:
                if left + panel.width > COLUMNS:
                    left, first, height = 0, first + height, 0
                tall = STAT_HEIGHT if panel.kind is Kind.NUMBER else PANEL_HEIGHT
                panels.append(_panel(panel, number + 1 + len(panels), left, first, tall))
                left, height = left + panel.width, max(height, tall)
            head = {"type": "row", "id": number, "title": row.title, "collapsed": row.is_collapsed}
            yield head | {
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
                "panels": panels if row.is_collapsed else [],
            }
            if not row.is_collapsed:
                yield from panels
            number, top = number + 1 + len(panels), first + height


def quantiles(metric: str, by: str, legend: str, marks: str = "$P") -> list[Query]:
    """The median, the 95th and the 99th percentile of a histogram."""
    return [
        Query(
            f"histogram_quantile({share}, sum by ({by}, le) (rate({metric}_bucket{{{marks}}}[$__rate_interval])))",
            f"{legend} p{round(share * 100)}",
        )
        for share in (0.5, 0.95, 0.99)
    ]


def rate(metric: str, by: str, legend: str, marks: str = "$P") -> Query:
    """How fast a counter grows."""
    return Query(f"sum by ({by}) (rate({metric}{{{marks}}}[$__rate_interval]))", legend)


def p95(metric: str, by: str, legend: str, marks: str = "$P") -> Query:
    """The 95th percentile of a histogram alone."""
    return quantiles(metric, by, legend, marks)[1]


def share(part: str, whole: str, by: str, legend: str) -> Query:
    """One counter's rate by another's; both with their braces."""
    over, under = (f"sum by ({by}) (rate({counter}[$__rate_interval]))" for counter in (part, whole))
    return Query(f"{over} / {under}", legend)


def _values(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": PROMETHEUS,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
    }


def _panel(panel: Panel, number: int, left: int, top: int, height: int) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.alarm is not None:
        steps = [{"color": "red" if panel.alarm_below else "green", "value": None}]
        steps.append({"color": "green" if panel.alarm_below else "red", "value": panel.alarm})
    custom: dict[str, Any] = {}
    if panel.kind is Kind.LINES:
        custom = {"fillOpacity": 20 if panel.is_stacked else 0, "showPoints": "never"}
        custom["stacking"] = {"mode": "normal" if panel.is_stacked else "none"}
        if panel.alarm is not None:
            custom["thresholdsStyle"] = {"mode": "line"}
    defaults: dict[str, Any] = {
        "unit": panel.unit.grafana,
        "custom": custom,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.unit is not Unit.CELSIUS:
        defaults["min"] = 0
    if panel.texts:
        options = {str(value): {"text": text} for value, text in panel.texts.items()}
        defaults["mappings"] = [{"type": "value", "options": options}]
    return {
        "type": panel.kind.value,
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "links": [
            {"title": f"Runbook: {alert}", "url": f"${{runbooks}}/{alert}.md", "targetBlank": True}
            for alert in ALERT.findall(panel.description)
        ],
        "datasource": PROMETHEUS,
        "gridPos": {"h": height, "w": panel.width, "x": left, "y": top},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel.kind),
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": PROMETHEUS,
                "expr": query.promql,
                "legendFormat": query.legend,
            }
            for index, query in enumerate(panel.queries)
        ],
    }


def _options(kind: Kind) -> dict[str, Any]:
    if kind is Kind.NUMBER:
        return {"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
    if kind is Kind.STATES:
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "mergeValues": True}
    return {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
