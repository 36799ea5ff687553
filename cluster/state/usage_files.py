"""Usage on this machine's disk: the lines of journal segments, and the totals of a gateway without a state store.

In one folder: `WRITER-SEQUENCE.segment` holds what is not in the totals yet, `WRITER.lock` is locked while its writer
lives, `totals-DAY.json` holds one day. What must not live here: when segments are written and handed in
(services/gateway/usage_journal.py, usage.py).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from cluster.core.tenant import KeyId, TenantName
from cluster.core.usage import COUNT_FIELDS, RETENTION_DAYS, UsageBatch, UsageCounts, UsageKey, folded

SEGMENT_SUFFIX = ".segment"
LOCK_SUFFIX = ".lock"
PARTIAL_SUFFIX = ".partial"
MARKS_MAX = 1_024
"""Writers whose last sequence a totals file remembers, the latest ones. A segment can only be handed in twice right
after a crash; by the time a thousand other worker processes have come and gone, its writer's are long unlinked."""
PRIVATE = 0o600
_SEGMENT = re.compile(r"(?P<writer>[0-9a-z]{8,64})-(?P<sequence>[0-9]{9})\.segment")
_TOTALS = re.compile(r"totals-(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})\.json")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SegmentName:
    """Which segment a file is; they order by writer, then sequence."""

    writer: str
    sequence: int

    def path(self, folder: Path) -> Path:
        """Where it is."""
        return folder / f"{self.writer}-{self.sequence:09d}{SEGMENT_SUFFIX}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What was read of one segment."""

    sums: dict[UsageKey, UsageCounts]
    damaged_lines: int = 0
    """Complete lines that cannot be read: a host crash can leave such."""


def segments(folder: Path) -> list[SegmentName]:
    """Every segment in `folder`, in order; none where there is no folder."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    found = (_SEGMENT.fullmatch(name) for name in names)
    return sorted(SegmentName(writer=hit["writer"], sequence=int(hit["sequence"])) for hit in found if hit)


def line_head(key: UsageKey) -> bytes:
    """The first part of a key's lines: JSON without line breaks, and a space."""
    return json.dumps([key.day, key.tenant, key.key_id, key.model], separators=(",", ":")).encode() + b" "


def line_tail(counts: UsageCounts) -> bytes:
    """The second part: the counts in the order of COUNT_FIELDS, and the line's end."""
    return b"%d %d %d %d %d %d\n" % (
        counts.requests,
        counts.prompt_tokens,
        counts.cached_tokens,
        counts.output_tokens,
        counts.unknown_requests,
        counts.broken_requests,
    )


def read_segment(path: Path) -> Segment:
    """Read and add up a segment. A last line without its end was cut by a kill and does not count.

    Raises:
        OSError: the file cannot be read.
    """
    *lines, _torn = path.read_bytes().split(b"\n")
    heads: dict[bytes, UsageKey] = {}
    damaged = 0
    records = []
    for line in lines:
        try:
            head, *numbers = line.rsplit(b" ", len(COUNT_FIELDS))
            key = heads.get(head) or heads.setdefault(head, _key(json.loads(head)))
            records.append((key, UsageCounts(**dict(zip(COUNT_FIELDS, map(int, numbers), strict=True)))))
        except (ValueError, TypeError):
            damaged += 1
    return Segment(sums=folded(records), damaged_lines=damaged)


def compact(path: Path) -> int:
    """Rewrite a segment with one line a key, in one step; its name stays, so it still counts once.

    Returns:
        Its size in bytes.

    Raises:
        OSError: it cannot be read or written.
    """
    text = b"".join(line_head(key) + line_tail(counts) for key, counts in read_segment(path).sums.items())
    # A name of its own: a cancelled caller's thread may still be at it.
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=PARTIAL_SUFFIX)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(text)
    Path(partial).replace(path)
    return len(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayTotals:
    """One day in the totals."""

    sums: dict[UsageKey, UsageCounts] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    """The last sequence of each writer that is in `sums`."""


class FileTotals:
    """Totals in files of one folder; several processes of one machine may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def apply(self, batch: UsageBatch) -> bool:
        """Add a batch, unless it was added before.

        A day is one file, replaced in one step, with its marks inside; so a crash between two days of one batch
        loses and doubles nothing either. Synced to disk: a replaced file that a host crash empties would lose a day.

        Returns:
            Whether anything was added.

        Raises:
            OSError: the folder cannot be written.
        """
        is_new = False
        with self._locked():
            for day in sorted({key.day for key in batch.sums}):
                known = self._day(day)
                if known.marks.get(batch.writer, -1) >= batch.sequence:
                    continue
                ours = [(key, counts) for key, counts in batch.sums.items() if key.day == day]
                sums = folded([*known.sums.items(), *ours])
                marks = {writer: mark for writer, mark in known.marks.items() if writer != batch.writer}
                marks[batch.writer] = batch.sequence
                latest = dict(list(marks.items())[-MARKS_MAX:])
                if not known.marks:
                    self._forget_before(day)
                _replace(self._path(day), _encoded(DayTotals(sums=sums, marks=latest)))
                is_new = True
        return is_new

    def read(self, days: Sequence[str]) -> Mapping[str, DayTotals]:
        """The totals of these days; a day without any is left out.

        Raises:
            OSError: a file cannot be read.
            ValueError: a file is damaged.
        """
        return {day: known for day in days if (known := self._day(day)).marks}

    def _day(self, day: str) -> DayTotals:
        try:
            text = self._path(day).read_bytes()
        except FileNotFoundError:
            return DayTotals()
        data = json.loads(text)
        sums = {
            _key([day, *row[:3]]): UsageCounts(**dict(zip(COUNT_FIELDS, row[3:], strict=True)))
            for row in data["counts"]
        }
        return DayTotals(sums=sums, marks=data["marks"])

    def _path(self, day: str) -> Path:
        return self._folder / f"totals-{day}.json"

    def _forget_before(self, day: str) -> None:
        oldest = (date.fromisoformat(day) - timedelta(days=RETENTION_DAYS)).isoformat()
        for path in list(self._folder.iterdir()):
            found = _TOTALS.fullmatch(path.name)
            if found and found["day"] < oldest:
                path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._folder / "totals", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _key(parts: Any) -> UsageKey:
    day, tenant, key_id, model = (str(part) for part in parts)
    return UsageKey(day=day, tenant=TenantName(tenant), key_id=KeyId(key_id), model=model)


def _encoded(totals: DayTotals) -> bytes:
    counts = [[key.tenant, key.key_id, key.model, *astuple(value)] for key, value in totals.sums.items()]
    return json.dumps({"counts": counts, "marks": totals.marks}, separators=(",", ":")).encode()


def _replace(path: Path, text: bytes) -> None:
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    with partial.open("wb") as file:
        partial.chmod(PRIVATE)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
