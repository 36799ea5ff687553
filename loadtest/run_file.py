"""A run as a file of JSON lines: first the run, then each record; packed with gzip where the name ends in `.gz`.

What must not live here: sums, plots (report/).
"""

from __future__ import annotations

import gzip
import json
import os
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any

from cluster.core.errors import LongreachError, SetupError
from loadtest.record import Record, Run

FORMAT = 1
"""Of the file; a reader refuses others."""
_RUN = {one.name for one in fields(Run)} - {"records"}
_RECORD = [one.name for one in fields(Record)]


class RunFileError(LongreachError):
    """A file is no run, or one of another version."""


def write_run(path: Path, run: Run) -> None:
    """Write a run; the file is there whole, or as it was.

    Raises:
        SetupError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _opened(partial, "wt", packed=_is_packed(path)) as file:
            head = {name: getattr(run, name) for name in sorted(_RUN)}
            file.write(_line({"longreach_run": FORMAT, "records": len(run.records), **head}))
            for record in run.records:
                file.write(_line(asdict(record) | {"gaps_s": list(record.gaps_s)}))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SetupError(f"{path} cannot be written: {error.strerror or error}", "name another file") from error


def read_run(path: Path) -> Run:
    """Read a run.

    Raises:
        SetupError: there is no such file, or it may not be read.
        RunFileError: it is no run, or not a whole one.
    """
    try:
        with _opened(path, "rt", packed=_is_packed(path)) as file:
            head = _object(path, 1, file.readline())
            if head.get("longreach_run") != FORMAT:
                raise RunFileError(f"{path}, line 1: no run of format {FORMAT} begins here")
            records = [*_records(path, file)]
    except (EOFError, UnicodeDecodeError, gzip.BadGzipFile) as error:
        raise RunFileError(f"{path} is damaged: {error}") from error
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror or error}", "check the path") from error
    if len(records) != head.get("records"):
        raise RunFileError(f"{path} has {len(records)} records of {head.get('records')}: it was cut off")
    try:
        return Run(records=records, **{name: head[name] for name in _RUN})
    except KeyError as error:
        raise RunFileError(f"{path}, line 1: {error} is missing") from error


def _records(path: Path, file: IO[str]) -> Iterator[Record]:
    for number, line in enumerate(file, 2):
        told = _object(path, number, line)
        try:
            gaps = array("d", told.pop("gaps_s"))
            yield Record(gaps_s=gaps, **told)
        except (TypeError, KeyError) as error:
            raise RunFileError(f"{path}, line {number}: no record ({error}); it has {', '.join(_RECORD)}") from error


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise RunFileError(f"{path}, line {number}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise RunFileError(f"{path}, line {number}: not an object")
    return found


def _line(told: Mapping[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n"


def _is_packed(path: Path) -> bool:
    return path.suffix == ".gz"


def _opened(path: Path, mode: str, *, packed: bool) -> IO[str]:
    if packed:
        return gzip.open(path, mode, encoding="utf-8")  # type: ignore[return-value]
    return path.open(mode, encoding="utf-8")
