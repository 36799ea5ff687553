"""Quality runs for tests: usual answers, what differs from them, and the command.

What must not live here: tests.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtest.quality.answered import Asked, Condition, QualityRun, Reply
from loadtest.quality.question import Language, QuestionKind

ROOT = Path(__file__).parents[1]
USUAL = Reply(
    text="48213",
    token_ids=(4, 8, 2, 1, 3),
    error="",
    code="",
    is_right=True,
    pool="short",
    replica="r1",
    prompt_tokens=1_000,
    cached_tokens=0,
    seconds=0.5,
    beside=0,
)
HELD: Mapping[Condition, Mapping[str, Any]] = {
    Condition.UNCACHED: {},
    Condition.CACHED: {"cached_tokens": 960},
    Condition.SINGLE: {"replica": "r9", "pool": "long"},
    Condition.LOADED: {"beside": 2},
}
"""What replies have where a condition held."""


def reply(**fields: Any) -> Reply:
    """A right answer but for what is given."""
    return replace(USUAL, **fields)


def asked(number: int = 0, conditions: Iterable[Condition] = (Condition.UNCACHED,), **fields: Any) -> Asked:
    """A question that was answered alike under each condition, which held."""
    usual: dict[str, Any] = {
        "id": f"needle-english-1000-d50-{number}",
        "digest": f"{number:016x}",
        "kind": QuestionKind.NEEDLE,
        "language": Language.ENGLISH,
        "prompt_tokens": 1_000,
        "depth": 0.5,
        "right": ("48213",),
        # Two pools, so that `single` has something to be compared with.
        "replies": {one: replace(reply(pool=("short", "long")[number % 2]), **HELD[one]) for one in conditions},
    }
    return Asked(**{**usual, **fields})


def quality_run(
    *questions: Asked, conditions: Iterable[Condition] = (Condition.UNCACHED,), **fields: Any
) -> QualityRun:
    """A run of these."""
    usual: dict[str, Any] = {
        "begun": "2026-11-28T12:00:00+00:00",
        "api": "rest",
        "arguments": {"seed": 1, "exact": False},
        "conditions": tuple(conditions),
        "asked": questions,
    }
    return QualityRun(**{**usual, **fields})


def with_reply(question: Asked, condition: Condition, **fields: Any) -> Asked:
    """The same, but for one answer."""
    changed = replace(question.replies[condition], **fields)
    return replace(question, replies={**question.replies, condition: changed})


async def quality(
    *arguments: str | Path, command: str = "quality", env: Mapping[str, str] | None = None, timeout_s: float = 120
) -> tuple[int | None, str, str]:
    """Run `longreach loadtest quality`: its exit status, what it printed, and what it said on standard error."""
    line = [sys.executable, "-m", "cluster.cli", "loadtest", command, *map(str, arguments)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*line, cwd=ROOT, stdout=pipe, stderr=pipe, env=env)
    async with asyncio.timeout(timeout_s):
        out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()
