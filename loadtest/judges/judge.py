"""What a judge is: how it is installed, told its load, and read.

What must not live here: any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from cluster.core.errors import LongreachError
from loadtest.judges.load import Order
from loadtest.judges.taken import Taken

RESULT_BYTES_MAX = 512 * 2**20
"""Of a judge's result file: a kilobyte for each token's time, of half a million tokens."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
"""Judges take tokenizer and prompts from this machine; nothing is to be asked elsewhere, nor told."""


class JudgeError(LongreachError):
    """A judge could not do its work, or its result is not what is known of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is run, by the judge's interpreter."""

    arguments: tuple[str, ...]
    """Of `python`."""
    variables: Mapping[str, str] = field(repr=False)
    """Beside the process's own; they may hold a key, which is in no argument."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """Where a judge comes from."""

    name: str
    version: str
    """The one that its files are known of."""
    environment: tuple[str | Path, ...]
    """What pip is told for an environment of its own; empty: it is not installed, an interpreter has it."""
    remedy: str
    """Where it is missing."""


class Judge(Protocol):
    """One judge."""

    @property
    def name(self) -> str:
        """As one types it."""
        ...

    @property
    def title(self) -> str:
        """As its project writes it."""
        ...

    @property
    def distribution(self) -> Distribution:
        """Where it comes from."""
        ...

    def command(self, order: Order) -> Command:
        """How it is run; writes what it needs into the order's folder."""
        ...

    def read(self, folder: Path) -> Taken:
        """What it measured.

        Raises:
            JudgeError: it left no result, or one that is not known of it.
        """
        ...


class Part(BaseModel):
    """A part of a result file; what is not asked for is left out."""

    model_config = ConfigDict(extra="ignore", frozen=True)


_Read = TypeVar("_Read", bound=Part)


def read_result(path: Path, kind: type[_Read]) -> _Read:
    """A result file.

    Raises:
        JudgeError: it is not there, too large, or something else.
    """
    try:
        size = path.stat().st_size
        if size > RESULT_BYTES_MAX:
            raise JudgeError(f"{path} has {size:,} bytes, over {RESULT_BYTES_MAX:,}: ask for fewer requests")
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise JudgeError(f"the judge left no result: {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise JudgeError(f"{path}: {where}: {first['msg']}: is it of another version of the judge?") from None
