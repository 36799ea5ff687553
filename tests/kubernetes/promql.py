"""Which metrics and labels an expression of PromQL names.

Not a parser: promtool checks the grammar. It relies on our own rule that every metric has braces behind it. What must
not live here: which metrics exist (metric_sources.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^{}]*)\}")
MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right) \(([^()]*)\)")
COMMENT = re.compile(r"#.*$", re.MULTILINE)
BARE = re.compile(r"\b(?:longreach[_:]|vllm:|ray_|DCGM_|container_|scrape_|up\b)[a-zA-Z0-9_:]*")
"""What would be a metric without braces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """One metric as an expression names it."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator, value."""

    @property
    def labels(self) -> set[str]:
        return {label for label, _, _ in self.matchers}

    def values(self, label: str) -> set[str]:
        """The values that a label is compared with; a regular expression's alternatives, where it is only that."""
        found: set[str] = set()
        for name, operator, value in self.matchers:
            if name == label:
                found |= set(value.split("|")) if operator in {"=~", "!~"} else {value}
        return found


def selectors(expr: str) -> list[Selector]:
    """Every metric of an expression, with its matchers."""
    found = []
    for name, inside in SELECTOR.findall(COMMENT.sub("", expr)):
        matchers = MATCHER.findall(inside)
        written = sum(len(match[0]) for match in MATCHER.finditer(inside))
        assert written == len(inside), f"unread matchers: {inside!r} in {expr!r}"
        found.append(Selector(metric=name, matchers=tuple(matchers)))
    return found


def grouped_by(expr: str) -> set[str]:
    """The labels of all its `by (…)` and the like."""
    return {
        label.strip()
        for inside in GROUPING.findall(COMMENT.sub("", expr))
        for label in inside.split(",")
        if label.strip()
    }


def without_braces(expr: str) -> list[str]:
    """What looks like a metric and has no braces: a mistake by our own rule."""
    left = SELECTOR.sub("", COMMENT.sub("", expr))
    return BARE.findall(left)
