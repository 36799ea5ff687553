"""Prometheus's YAML from short descriptions: alerts that cannot be had without reason, severity, summary and runbook.

In an expression `$S` stands for the matcher that the chart replaces by its release's, and a threshold's name after `$`
for its number, alone at the end of a line. What must not live here: any rule, the numbers (thresholds.py).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cluster.kubernetes.monitoring.rules.thresholds import THRESHOLDS

SELECTOR = 'release=~".+"'
"""What the chart's template replaces by namespace and release."""
RUNBOOKS = "RUNBOOK_BASE_URL"
"""What it replaces by where docs/runbooks is."""
MARK = re.compile(r"\$(\w+)")
LINE_MAX = 120
HEAD = """\
# Written by `make dashboards` from cluster/kubernetes/monitoring/rules: change those.
#
# What Prometheus records and alerts on for one release: plain rules, usable as they are.
#
# The chart includes this file as text and replaces three things; {{ … }} is Prometheus's and never Helm's:
#   release=~".+"        becomes namespace="…", release="…"
#   RUNBOOK_BASE_URL     becomes monitoring.prometheusRule.runbookUrl
#   N # threshold: NAME  becomes monitoring.prometheusRule.thresholds.NAME, where that is set
# Each alert has a page in docs/runbooks and tests in tests/kubernetes/rules_test.yaml. Comments say why a threshold is
# what it is.
groups:
"""


class Severity(StrEnum):
    """Who has to look, and when."""

    CRITICAL = "critical"
    """Somebody, now."""
    WARNING = "warning"
    """In working hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert; its runbook is docs/runbooks/NAME.md."""

    name: str
    why: str
    """The reason of its threshold and of how long it lasts."""
    expr: str
    lasts: str
    """How long it must be true, as Prometheus writes durations."""
    severity: Severity
    summary: str
    description: str
    """With Prometheus's `{{ … }}`."""

    def lines(self) -> Iterator[str]:
        """As YAML, at the depth of a rule."""
        yield from _comment(self.why)
        yield f"      - alert: {self.name}"
        yield from _expr(self.expr)
        yield f"        for: {self.lasts}"
        yield "        labels:"
        yield f"          severity: {self.severity}"
        yield "        annotations:"
        yield f"          summary: {self.summary}"
        yield "          description: >-"
        # A break inside {{ … }} is one space more to Go's templates, which do not mind.
        yield from _wrapped(self.description, " " * 12)
        yield f"          runbook_url: {RUNBOOKS}/{self.name}.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A query that Prometheus answers ahead of time; `why` may be empty where the one before says it."""

    name: str
    why: str
    expr: str

    def lines(self) -> Iterator[str]:
        """As YAML, at the depth of a rule."""
        yield from _comment(self.why)
        yield f"      - record: {self.name}"
        yield from _expr(self.expr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rules that Prometheus evaluates one after another."""

    name: str
    rules: Sequence[Alert | Recording]
    interval: str = ""
    """Empty: Prometheus's own."""


def promql(expr: str) -> str:
    """The expression as the file has it.

    Raises:
        KeyError: it names a threshold that does not exist.
    """
    return MARK.sub(_filled, textwrap.dedent(expr).strip("\n"))


def rules_text(groups: Sequence[Group]) -> str:
    """The whole file."""
    return HEAD + "".join(f"{line}\n" for group in groups for line in _lines(group))


def _lines(group: Group) -> Iterator[str]:
    yield f"  - name: {group.name}"
    if group.interval:
        yield f"    interval: {group.interval}"
    yield "    rules:"
    for rule in group.rules:
        yield from rule.lines()


def _filled(found: re.Match[str]) -> str:
    name = found[1]
    return SELECTOR if name == "S" else f"{THRESHOLDS[name].text} # threshold: {name}"


def _comment(why: str) -> list[str]:
    return _wrapped(why, "      # ") if why else []


def _expr(expr: str) -> list[str]:
    return ["        expr: |", *textwrap.indent(promql(expr), " " * 10).splitlines()]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, LINE_MAX, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
