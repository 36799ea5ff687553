"""Jobs of the tier: what is to be moved, what came of it, and the counts over all of them.

What must not live here: threads (transfers.py), Redis (exchange.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import Enum

BATCH_KEYS = 8
"""In one pipeline: enough to hide the round trips, few enough to give both threads work of one job."""


class Kind(Enum):
    """What a job does."""

    LOAD = "load"
    STORE = "store"


@dataclass(slots=True)
class Counts:
    """What happened since the last look."""

    read_bytes: int = 0
    read_s: float = 0.0
    """Of whole jobs, from the moment they were handed over: what a fetch really takes."""
    written_bytes: int = 0
    write_s: float = 0.0
    loaded: int = 0
    missing: int = 0
    """Values that were announced and are not there."""
    stored: int = 0
    refreshed: int = 0
    """Blocks that were there already."""
    bad_size: int = 0
    bad_format: int = 0
    bad_key: int = 0
    bad_checksum: int = 0
    dropped_queue: int = 0
    dropped_down: int = 0
    dropped_full: int = 0
    refused: int = 0
    """Commands Redis refused for other reasons: its ACL, a version without GETEX."""
    failures: int = 0
    """Times Redis was away, slow, or made no sense."""

    def add(self, more: Counts) -> None:
        """Take others in."""
        for each in fields(Counts):
            setattr(self, each.name, getattr(self, each.name) + getattr(more, each.name))

    @property
    def bad(self) -> int:
        """Corrupt values, all of which were deleted."""
        return self.bad_size + self.bad_format + self.bad_key + self.bad_checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A job that ended."""

    job_id: int
    kind: Kind
    good: tuple[bool, ...]
    """For each block of the job; a block that was in Redis already counts as stored."""
    seconds: float
    size_bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether every block was transferred."""
        return all(self.good)


@dataclass(slots=True)
class Job:
    """One job under way."""

    job_id: int
    kind: Kind
    keys: Sequence[bytes]
    rows: list[memoryview]
    until_s: float
    began_s: float
    good: list[bool]
    left: int
    """Batches that have not ended."""


@dataclass(slots=True)
class Batch:
    """Some of a job's blocks: one pipeline."""

    job: Job
    first: int
    size: int = field(default=BATCH_KEYS)

    @property
    def span(self) -> range:
        """Their numbers within the job."""
        return range(self.first, min(self.first + self.size, len(self.job.keys)))
