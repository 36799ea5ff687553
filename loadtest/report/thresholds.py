"""Thresholds: what a run must reach, as `ttft_p95_s<2` or, of one label, `short/ttft_p95_s<0.5`.

What must not live here: exit statuses, which are the command's.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite, isnan

from cluster.core.errors import SetupError
from loadtest.report.figures import GROUP_NAMES, NAMES, group_figures, run_figures
from loadtest.report.summary import Summary

FORM = re.compile(r"\s*(?:(?P<label>[^/<>=]+)/)?(?P<name>[a-z0-9_]+)\s*(?P<sign><=|>=|<|>)\s*(?P<limit>[^<>=\s]+)\s*")
SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """One condition."""

    label: str
    """Of the requests that it is about; empty: all."""
    name: str
    sign: str
    limit: float

    def __str__(self) -> str:
        return f"{self.label + '/' if self.label else ''}{self.name}{self.sign}{self.limit:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A threshold that a run did not reach."""

    threshold: Threshold
    figure: float
    """nan: it was not measured, so that it cannot be said to be reached."""

    def __str__(self) -> str:
        was = "was not measured" if isnan(self.figure) else f"is {self.figure:.4g}"
        return f"{self.threshold}: it {was}"


def parse_threshold(text: str) -> Threshold:
    """The condition that a text means.

    Raises:
        SetupError: it means none, or names a figure that is not known.
    """
    found = FORM.fullmatch(text)
    if found is None:
        raise SetupError(f"--threshold {text!r} is no condition", "NAME<NUMBER with <, <=, > or >=, as ttft_p95_s<2")
    label, name = (found["label"] or "").strip(), found["name"]
    known = GROUP_NAMES if label else NAMES
    if name not in known:
        near = get_close_matches(name, known, n=1)
        remedy = f"did you mean {near[0]}? Known: {', '.join(known)}" if near else f"known: {', '.join(known)}"
        raise SetupError(f"--threshold {text!r}: {name} is no figure{' of a label' if label else ''}", remedy)
    try:
        limit = float(found["limit"])
    except ValueError:
        limit = float("nan")
    if not isfinite(limit):
        raise SetupError(f"--threshold {text!r}: {found['limit']!r} is no number", f"as {name}{found['sign']}2")
    return Threshold(label=label, name=name, sign=found["sign"], limit=limit)


def missed(found: Summary, thresholds: Iterable[Threshold]) -> tuple[Missed, ...]:
    """Those that the run did not reach; what was not measured counts as missed."""
    every = run_figures(found)
    labels = {group.name: group_figures(group) for group in found.labels}
    wrong = []
    for threshold in thresholds:
        figures = labels.get(threshold.label, {}) if threshold.label else every
        figure = figures.get(threshold.name, float("nan"))
        # A comparison with nan is false.
        if not SIGNS[threshold.sign](figure, threshold.limit):
            wrong.append(Missed(threshold=threshold, figure=figure))
    return tuple(wrong)
