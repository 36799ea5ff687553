"""The usage of one worker process on its way into the totals: recorded on the hot path, on disk one loop turn later.

A record is an append to a list. At the end of the event loop's turn one `write` puts all of the turn's records into
the active segment, a file opened for appending. The kernel has them then, so they survive a killed gateway. They are
not synced: that takes milliseconds, and a host that crashes loses at most what is not in the totals yet, about one
second. What must not live here: handing segments in (usage.py), what lines look like (cluster/state/usage_files.py).
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path

from cluster.core.errors import SetupError
from cluster.core.usage import UsageCounts, UsageKey
from cluster.state.usage_files import (
    LOCK_SUFFIX,
    PARTIAL_SUFFIX,
    PRIVATE,
    SegmentName,
    line_head,
    line_tail,
    segments,
)

logger = logging.getLogger(__name__)

SEGMENT_BYTES_MAX = 2**20
"""An active segment this long is closed even while others wait: some 15,000 requests, which are compacted in tens of
milliseconds off the event loop when the totals cannot be reached."""
PENDING_BYTES_MAX = 64 * 2**20
"""Most a worker keeps on disk for totals that cannot be reached. Compacted segments hold one line a key, so this is
days of outage; beyond it, usage is lost, loudly, and requests go on."""
UNWRITTEN_BYTES_MAX = 2**20
"""Most a worker keeps in memory while its disk refuses: some 10,000 requests."""
HEADS_MAX = 4_096
"""Cached first halves of lines; days pass and leave theirs behind, so a full cache is emptied."""


class UsageJournal:
    """Segments of one writer. Used by one event loop; a forked worker makes its own."""

    def __init__(
        self,
        folder: Path,
        *,
        writer: str,
        call_soon: Callable[[Callable[[], None]], object],
        pending_bytes_max: int = PENDING_BYTES_MAX,
    ) -> None:
        """Lock the writer's name for this process's life.

        Args:
            folder: made where it is missing; other workers may use it too.
            writer: a new name of lower-case letters and digits, unique for ever.
            call_soon: the event loop's.
            pending_bytes_max: most bytes on disk.

        Raises:
            SetupError: the folder cannot be written.
        """
        self.folder = folder
        self.writer = writer
        self.dropped_records = 0
        """Records lost to `pending_bytes_max` or to a disk that refuses."""
        self._call_soon = call_soon
        self._pending_bytes_max = pending_bytes_max
        self._records: list[tuple[UsageKey, UsageCounts]] = []
        self._unwritten: list[bytes] = []
        self._unwritten_bytes = 0
        self._heads: dict[UsageKey, bytes] = {}
        self._sealed: dict[SegmentName, int] = {}
        self._sealed_bytes = 0
        self._uncompacted: set[SegmentName] = set()
        self._sequence = 0
        self._active: int | None = None
        self._active_bytes = 0
        self._is_refused = False
        self._is_dropping = False
        self._lock: int | None = _lock_new(folder, writer)

    @property
    def pending_bytes(self) -> int:
        """What is on disk and not in the totals."""
        return self._active_bytes + self._sealed_bytes

    @property
    def sealed(self) -> tuple[SegmentName, ...]:
        """Closed segments, in order."""
        return tuple(self._sealed)

    @property
    def uncompacted(self) -> tuple[SegmentName, ...]:
        """Closed segments that still hold a line a request, in order."""
        return tuple(sorted(self._uncompacted))

    def record(self, key: UsageKey, counts: UsageCounts) -> None:
        """Count one request; it is on disk after this turn of the event loop."""
        records = self._records
        if not records:
            self._call_soon(self.write)
        records.append((key, counts))

    def write(self) -> None:
        """Put what was recorded into the active segment; never raises for a disk that refuses."""
        records, self._records = self._records, []
        for key, counts in records:
            line = self._head(key) + line_tail(counts)
            self._unwritten.append(line)
            self._unwritten_bytes += len(line)
        if not self._unwritten:
            return
        if self.pending_bytes + self._unwritten_bytes > self._pending_bytes_max:
            self._drop("the folder holds all it may")
            return
        if self._append(b"".join(self._unwritten)):
            self._active_bytes += self._unwritten_bytes
            self._unwritten, self._unwritten_bytes = [], 0
        elif self._unwritten_bytes > UNWRITTEN_BYTES_MAX:
            self._drop("the disk refuses")

    def seal(self) -> None:
        """Close the active segment if there is anything in it; the next record begins another."""
        if self._active is None:
            return
        if self._active_bytes:
            name = self._active_name()
            self._sealed[name] = self._active_bytes
            self._sealed_bytes += self._active_bytes
            self._uncompacted.add(name)
            self._sequence += 1
        os.close(self._active)
        self._active, self._active_bytes = None, 0

    @property
    def is_full(self) -> bool:
        """Whether the active segment is as long as it may get."""
        return self._active_bytes >= SEGMENT_BYTES_MAX

    def shrunk(self, name: SegmentName, size_bytes: int) -> None:
        """A closed segment was compacted."""
        self._sealed_bytes += size_bytes - self._sealed[name]
        self._sealed[name] = size_bytes
        self._uncompacted.discard(name)

    def done(self, name: SegmentName) -> None:
        """A closed segment is in the totals and gone from disk."""
        self._sealed_bytes -= self._sealed.pop(name)
        self._uncompacted.discard(name)

    def close(self) -> None:
        """Write and close everything. Segments that remain belong to whoever finds them next."""
        self.write()
        self.seal()
        if self._lock is not None:
            if not self._sealed:
                _lock_path(self.folder, self.writer).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _active_name(self) -> SegmentName:
        return SegmentName(writer=self.writer, sequence=self._sequence)

    def _head(self, key: UsageKey) -> bytes:
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            head = self._heads[key] = line_head(key)
        return head

    def _append(self, text: bytes) -> bool:
        """Write all of `text` or nothing; whether it was written."""
        try:
            if self._active is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._active = os.open(self._active_name().path(self.folder), flags, PRIVATE)
            written = os.write(self._active, text)
            if written < len(text):
                # A full disk takes a part. A torn line in the middle would damage the next one too.
                os.ftruncate(self._active, self._active_bytes)
                raise OSError(f"only {written} of {len(text)} bytes fit")  # noqa: TRY301 - one way out for both
        except OSError as error:
            if not self._is_refused:
                logger.error("usage journal cannot be written, trying again: %s", error)  # noqa: TRY400 - disk full
            self._is_refused = True
            return False
        self._is_refused = False
        if self._is_dropping:
            logger.warning("usage is counted again; %d records were lost since the start", self.dropped_records)
        self._is_dropping = False
        return True

    def _drop(self, reason: str) -> None:
        if not self._is_dropping:
            logger.error("usage is being lost, %s: see longreach_usage_dropped_records_total", reason)
        self._is_dropping = True
        self.dropped_records += len(self._unwritten)
        self._unwritten, self._unwritten_bytes = [], 0


def writers(folder: Path) -> set[str]:
    """Everybody who has something in `folder`, dead or alive; nobody where there is no folder."""
    locks = {path.name.removesuffix(LOCK_SUFFIX) for path in folder.glob(f"*{LOCK_SUFFIX}")}
    return locks | {name.writer for name in segments(folder)}


def take_over(folder: Path, writer: str) -> int | None:
    """Lock the name of another writer, if it is dead.

    Returns:
        A descriptor that holds the lock until it is closed; None while the writer lives, or another worker has it.

    Raises:
        OSError: the folder cannot be written.
    """
    descriptor = os.open(_lock_path(folder, writer), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def bury(folder: Path, writer: str) -> None:
    """Forget a dead writer whose segments are all in the totals; its lock is held."""
    for leftover in folder.glob(f"{writer}-*{PARTIAL_SUFFIX}"):
        leftover.unlink(missing_ok=True)
    _lock_path(folder, writer).unlink(missing_ok=True)


def _lock_new(folder: Path, writer: str) -> int:
    """The lock is taken before anybody can see its file, so a writer never looks dead while it starts."""
    path = _lock_path(folder, writer)
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        partial.replace(path)
    except OSError as error:
        raise SetupError(
            f"usage cannot be journalled in {folder}: {error}",
            "make the folder writable for the gateway, or set LONGREACH_STATE to one that is",
        ) from error
    return descriptor


def _lock_path(folder: Path, writer: str) -> Path:
    return folder / f"{writer}{LOCK_SUFFIX}"
