"""What was answered, and a quality run as a file: JSON, one object.

What must not live here: asking (asking.py), judging (verdict.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cluster.core.errors import SetupError
from loadtest.quality.question import Language, QuestionKind

VERSION = 1
FILE_BYTES_MAX = 2**30
"""A run of 100,000 questions under four conditions has a tenth of it."""
REMEDY = "name a file that `longreach loadtest quality --out` wrote"


class Condition(StrEnum):
    """What a set is asked under."""

    UNCACHED = "uncached"
    """Alone, and nothing of its prompts is cached."""
    CACHED = "cached"
    """Alone, and again, so that prompts are in the prefix cache."""
    SINGLE = "single"
    """Alone, at another address, where one replica answers everything."""
    LOADED = "loaded"
    """Beside a load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer to one question."""

    text: str
    token_ids: tuple[int, ...]
    """Empty where the server tells none."""
    error: str
    """As `Record.error`; empty: a good answer."""
    code: str
    is_right: bool
    pool: str
    replica: str
    prompt_tokens: int
    cached_tokens: int
    seconds: float
    beside: int
    """Requests of the background load that were under way on the same replica meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question without its document, and what was answered under each condition."""

    id: str
    digest: str
    kind: QuestionKind
    language: Language
    prompt_tokens: int
    """What was asked for; what it had is in the replies."""
    depth: float | None
    right: tuple[str, ...]
    replies: Mapping[Condition, Reply]


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRun:
    """A set that was asked."""

    version: int = VERSION
    begun: str
    """ISO 8601, UTC."""
    api: str
    """`rest` or `grpc`."""
    arguments: Mapping[str, Any]
    """Everything it takes to run it again, without secrets."""
    conditions: tuple[Condition, ...]
    """In order; the others are compared with the first."""
    asked: tuple[Asked, ...]

    def replies(self, condition: Condition) -> Mapping[str, Reply]:
        """By the question's id."""
        return {one.id: one.replies[condition] for one in self.asked}


_FORM = TypeAdapter(QualityRun)


def write_quality(path: Path, run: QualityRun) -> None:
    """Write a run; a file that is there already is replaced.

    Raises:
        SetupError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_FORM.dump_json(run, indent=1) + b"\n")
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}", "name another file") from error


def read_quality(path: Path) -> QualityRun:
    """Read what `write_quality` wrote.

    Raises:
        SetupError: it cannot be read, or is something else.
    """
    try:
        with path.open("rb") as file:
            run = _FORM.validate_json(file.read(FILE_BYTES_MAX))
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}", REMEDY) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise SetupError(f"{path}: {where}: {first['msg']}", REMEDY) from error
    missing = [
        f"{one.id}: {condition}" for one in run.asked for condition in run.conditions if condition not in one.replies
    ]
    if run.version != VERSION or missing or not run.conditions:
        problem = f"no reply of {missing[0]}" if missing else f"version {run.version} or no condition"
        raise SetupError(f"{path}: {problem}", REMEDY)
    return run
