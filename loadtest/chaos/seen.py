"""What an operator would have seen of a fault: counters of the gateway that moved, and warnings in its log.

What must not live here: judging answers.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from loadtest.chaos.target import Target

PAUSES = "longreach_resume_seconds"
FAMILIES = (
    "longreach_broken_answers", "longreach_resumes", "longreach_moves", "longreach_attempts", "longreach_refused",
    "longreach_spilled", "longreach_idempotent_requests", PAUSES,
)  # fmt: skip
"""Counters that tell of faults."""
STAGES = ("place", "redo")
PLACE_S = 3.0
"""Longest that a cut stream should look for a place; what it then computes again comes on top."""
QUIET = frozenset({("result", "answered")})
"""Labels of what is no news."""
LOUD = re.compile(r" (WARNING|ERROR|CRITICAL) ")
LINES_MAX = 8


class Sight:
    """What has been there since it began to look."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._log = target.run_dir.log("gateway")
        self._before: dict[str, float] = {}
        self._offset = 0

    async def begin(self) -> None:
        """From here on."""
        self._before = counters(await self._target.metrics())
        self._offset = self._log.stat().st_size

    async def told(self) -> tuple[list[str], list[str]]:
        """What moved and what was logged, most first; and what of it misses a target."""
        now = counters(await self._target.metrics())
        moved = {name: value - self._before.get(name, 0.0) for name, value in now.items()}
        # A gateway that was started again counts from zero.
        moved = {name: now[name] if value < 0 else value for name, value in moved.items()}
        lines = [f"{name} +{value:g}" for name, value in sorted(moved.items()) if value and PAUSES not in name]
        paused, missed = pauses(moved)
        return paused + lines[:LINES_MAX] + warnings(self._log, self._offset), missed


def counters(text: str) -> dict[str, float]:
    """Samples of `FAMILIES`, by name and labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        if family.name not in FAMILIES:
            continue
        for sample in family.samples:
            if sample.name.endswith("_created") or QUIET & sample.labels.items():
                continue
            if sample.name.endswith("_bucket") and float(sample.labels["le"]) != PLACE_S:
                continue
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def pauses(moved: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """What the gateway saw of cut streams' pauses, and whether that misses the target; nothing where none was cut."""

    def total(end: str, stage: str) -> float:
        family = f"{PAUSES}_{end}{{"
        return sum(value for name, value in moved.items() if name.startswith(family) and f"stage={stage}" in name)

    count = total("count", STAGES[0])
    if not count:
        return [], []
    place_s, redo_s = (total("sum", stage) / count for stage in STAGES)
    late = count - total("bucket", STAGES[0])
    told = f"{count:g} cut streams had a place after {place_s:.2f} s and went on {redo_s:.2f} s later, in the mean"
    return [told], [f"{late:g} of {count:g} cut streams had no place within {PLACE_S:g} s"] if late else []


def warnings(log: Path, offset: int) -> list[str]:
    """Distinct warnings and errors behind `offset`, with how often each came."""
    try:
        with log.open("rb") as file:
            file.seek(offset)
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = Counter(_message(line) for line in lines if _is_loud(line))
    return [f"log: {text} ({count})" for text, count in found.most_common(LINES_MAX)]


def _is_loud(line: str) -> bool:
    if line.startswith("{"):
        try:
            return str(json.loads(line).get("level", "")).upper() in {"WARNING", "ERROR", "CRITICAL"}
        except ValueError:
            return False
    return LOUD.search(line) is not None


def _message(line: str) -> str:
    if line.startswith("{"):
        return str(json.loads(line).get("message", ""))
    return re.sub(r"^.*? (?:WARNING|ERROR|CRITICAL) ", "", line)[:100]
