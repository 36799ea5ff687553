"""A run as a file: JSON lines, the run's head first, then a record a line; compressed where the name ends in `.gz`.

Times are kept to the microsecond. What must not live here: what is in a record (record.py).
"""

from __future__ import annotations

import gzip
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from cluster.core.errors import SetupError
from loadtest.record import Record, Run

FORMAT = "longreach-run"
VERSION = 1
TIME_DIGITS = 6
GZIP_LEVEL = 5
"""Twice as fast as 9, the default, for files that are hardly larger."""
LINE_BYTES_MAX = 64 * 1024 * 1024
"""Of a record with millions of gaps; a longer line is no record."""
RECORDS_MAX = 10_000_000
"""Held in memory at a kilobyte and more each."""
REMEDY = "name a file that `longreach loadtest run --out` wrote"

_Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_time(value: Any) -> bool:
    return type(value) in (int, float)


def _is_times(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_time, value))


def _is_time_or_none(value: Any) -> bool:
    return value is None or _is_time(value)


def _is_figures(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_time, value.values()))


def _is_many_figures(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_figures, value))


_RECORD: Mapping[str, _Check] = {
    "label": _is_text, "tenant": _is_text, "session": _is_count, "turn": _is_count, "due_s": _is_time,
    "sent_s": _is_time, "first_token_s": _is_time_or_none, "ended_s": _is_time, "gaps_s": _is_times,
    "status": _is_count, "error": _is_text, "code": _is_text, "prompt_tokens": _is_count,
    "cached_tokens": _is_count, "output_tokens": _is_count, "pool": _is_text, "replica": _is_text,
    "planned_tokens": _is_count,
}  # fmt: skip
_HEAD: Mapping[str, _Check] = {
    "scenario": _is_text, "arguments": lambda value: isinstance(value, dict), "api": _is_text, "begun": _is_text,
    "seconds": _is_time, "warmup_s": _is_time, "client": _is_figures, "stopped": _is_text,
    "warnings": lambda value: isinstance(value, list) and all(map(_is_text, value)), "metrics": _is_many_figures,
}  # fmt: skip


def write_run(path: Path, run: Run) -> None:
    """Write a run; a file that is there already is replaced.

    Raises:
        SetupError: it cannot be written.
    """
    head = {"format": FORMAT, "version": VERSION, "records": len(run.records)}
    head |= {name: getattr(run, name) for name in _HEAD}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open(path, "wb") as file:
            file.write(orjson.dumps(head) + b"\n")
            for record in run.records:
                file.write(orjson.dumps({name: _rounded(getattr(record, name)) for name in _RECORD}) + b"\n")
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}", "name another file") from error


def read_run(path: Path) -> Run:
    """Read what `write_run` wrote.

    Raises:
        SetupError: it cannot be read, or a line is not what it should be; the error names it.
    """
    try:
        with _open(path, "rb") as file:
            lines = _lines(path, file)
            head = next(lines, None)
            if head is None or head.get("format") != FORMAT:
                raise _wrong(path, 1, "format", f"is not {FORMAT}")
            if head.get("version") != VERSION:
                raise _wrong(path, 1, "version", f"is {head.get('version')!r}, not {VERSION}")
            run = Run(**_checked(path, 1, head, _HEAD), records=())
            records = [Record(**_checked(path, number, line, _RECORD)) for number, line in enumerate(lines, 2)]
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "it breaks off"
        raise SetupError(f"{path} cannot be read: {reason}", REMEDY) from error
    if len(records) != head.get("records"):
        raise _wrong(path, 1, "records", f"says {head.get('records')!r}, and {len(records):,} follow")
    return replace(run, records=records)


def _open(path: Path, mode: str) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, mode, compresslevel=GZIP_LEVEL))
    return cast("BinaryIO", path.open(mode))


def _lines(path: Path, file: BinaryIO) -> Iterator[dict[str, Any]]:
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > LINE_BYTES_MAX:
            raise _wrong(path, number, "", f"over {LINE_BYTES_MAX:,} bytes")
        if number > RECORDS_MAX:
            raise _wrong(path, number, "", f"over {RECORDS_MAX:,} records")
        try:
            found = orjson.loads(line)
        except ValueError as error:
            raise _wrong(path, number, "", f"is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise _wrong(path, number, "", "is not a JSON object")
        yield found


def _checked(path: Path, number: int, line: Mapping[str, Any], checks: Mapping[str, _Check]) -> dict[str, Any]:
    """The fields of a line; those that are not known, of a later version, are left out."""
    for name, is_right in checks.items():
        if name not in line:
            raise _wrong(path, number, name, "is missing")
        if not is_right(line[name]):
            raise _wrong(path, number, name, f"is {str(line[name])[:40]!r}")
    return {name: line[name] for name in checks}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, TIME_DIGITS)
    return [round(one, TIME_DIGITS) for one in value] if isinstance(value, list | tuple | array) else value


def _wrong(path: Path, number: int, field: str, problem: str) -> SetupError:
    return SetupError(f"{path}:{number}: {field + ' ' if field else ''}{problem}", REMEDY)
