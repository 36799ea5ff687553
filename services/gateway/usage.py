"""Usage from the request to the totals: who used how many tokens, exactly once, whatever is killed when.

A segment's counts are added to the totals together with its name, in one step; only then is it unlinked. A crash
between the two hands it in again, which adds nothing. What must not live here: segments (usage_journal.py), totals
(cluster/state), what a request's counts are (cluster/core/usage.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from redis.exceptions import RedisError

from cluster.core.tenant import KeyId, TenantName
from cluster.core.usage import UsageBatch, UsageCounts, UsageKey
from cluster.state.usage_files import FileTotals, SegmentName, compact, read_segment, segments
from services.gateway.usage_journal import UsageJournal, bury, take_over, writers

logger = logging.getLogger(__name__)

FLUSH_S = 1.0
"""How far the totals are behind, and about what a crashing host loses; Redis is asked once in this time, no more."""
ADOPT_FLUSHES = 30
"""Flushes between two looks for dead workers' segments. They wait on disk, so this only bounds how late they show."""
CLOSE_S = 3.0
"""How long a stopping gateway tries to hand in the rest; what remains is handed in by the next one."""
NAMES_MAX = 4_096
"""Cached keys of one day; names come from the configuration, and a full cache is emptied."""
DAY_S = 86_400


class UsageTotals(Protocol):
    """Where counts are kept; cluster/state/usage.py's UsageStore is one, `LocalTotals` the other."""

    async def apply(self, batch: UsageBatch) -> bool:
        """Add a batch unless it was added before.

        Raises RedisError, OSError or ValueError when it cannot.
        """
        ...


class LocalTotals:
    """Totals in files, written off the event loop."""

    def __init__(self, files: FileTotals) -> None:
        self._files = files

    async def apply(self, batch: UsageBatch) -> bool:
        """Add a batch unless it was added before."""
        return await asyncio.to_thread(self._files.apply, batch)


class Usage:
    """Counts requests; one a worker process."""

    def __init__(
        self,
        journal: UsageJournal,
        totals: UsageTotals,
        *,
        clock: Callable[[], float],
        report: Callable[[int, int], None] = lambda _pending_bytes, _dropped_records: None,
    ) -> None:
        """Put the parts together.

        Args:
            journal: this worker's.
            totals: where counts go.
            clock: seconds since the epoch.
            report: told after every flush: bytes not in the totals, records lost since the start.
        """
        self._journal = journal
        self._totals = totals
        self._clock = clock
        self._report = report
        self._keys: dict[tuple[str, str, str], UsageKey] = {}
        self._day_ends_s = 0.0
        self._day = ""
        self._flushing = asyncio.Lock()
        self._is_away = False

    def record(self, tenant: TenantName, key_id: KeyId, model: str, counts: UsageCounts) -> None:
        """Count one answered request; `model` is a name from the configuration. Never raises, never blocks."""
        if self._clock() >= self._day_ends_s:
            self._turn_day()
        names = (tenant, key_id, model)
        key = self._keys.get(names)
        if key is None:
            if len(self._keys) >= NAMES_MAX:
                self._keys.clear()
            key = self._keys[names] = UsageKey(day=self._day, tenant=tenant, key_id=key_id, model=model)
        self._journal.record(key, counts)

    async def follow(self) -> None:
        """Hand in what is recorded, and what dead workers left, until cancelled."""
        flushes = 0
        while True:
            if flushes % ADOPT_FLUSHES == 0:
                await self.adopt()
            flushes += 1
            await self.flush()
            await asyncio.sleep(FLUSH_S)

    async def flush(self) -> bool:
        """Hand in this worker's segments; whether everything recorded before is in the totals now."""
        async with self._flushing:
            journal = self._journal
            journal.write()
            # While the totals are away one segment grows, so that few files wait.
            if journal.is_full or not journal.sealed:
                journal.seal()
            for name in journal.sealed:
                if not await self._hand_in(name):
                    await self._compact()
                    break
                journal.done(name)
            self._report(journal.pending_bytes, journal.dropped_records)
            return not journal.pending_bytes

    async def adopt(self) -> None:
        """Hand in the segments of writers that are dead; those of live ones are theirs."""
        folder = self._journal.folder
        async with self._flushing:
            for writer in sorted(writers(folder) - {self._journal.writer}):
                lock = take_over(folder, writer)
                if lock is None:
                    continue
                try:
                    # Listed under the lock: before it, the writer may still have written.
                    names = [name for name in segments(folder) if name.writer == writer]
                    for name in names:
                        if not await self._hand_in(name):
                            return
                    bury(folder, writer)
                finally:
                    os.close(lock)

    async def close(self) -> None:
        """Hand in the rest, as far as there is time, and let the journal go."""
        try:
            async with asyncio.timeout(CLOSE_S):
                # The first may only have handed in what was waiting before the active segment.
                if not await self.flush() and not self._is_away:
                    await self.flush()
        except TimeoutError:
            logger.warning("usage not handed in before the end; the next gateway on this machine does it")
        finally:
            self._journal.close()

    async def _hand_in(self, name: SegmentName) -> bool:
        """Whether the segment's counts are in the totals and its file is gone."""
        path = name.path(self._journal.folder)
        try:
            segment = await asyncio.to_thread(read_segment, path)
        except FileNotFoundError:
            logger.error("usage segment %s was removed by somebody", path.name)  # noqa: TRY400 - no defect of ours
            return True
        if segment.damaged_lines:
            logger.error("usage segment %s: %d damaged lines left out", path.name, segment.damaged_lines)
        try:
            if segment.sums:
                await self._totals.apply(UsageBatch(writer=name.writer, sequence=name.sequence, sums=segment.sums))
        except (RedisError, OSError, ValueError) as error:
            if not self._is_away:
                logger.warning("usage totals cannot be reached, the journal waits: %s", error)
            self._is_away = True
            return False
        path.unlink(missing_ok=True)
        if self._is_away:
            logger.info("usage totals are back")
        self._is_away = False
        return True

    async def _compact(self) -> None:
        """Make what waits small: one line a key instead of one a request."""
        for name in self._journal.uncompacted:
            size_bytes = await asyncio.to_thread(compact, name.path(self._journal.folder))
            self._journal.shrunk(name, size_bytes)

    def _turn_day(self) -> None:
        now_s = self._clock()
        self._day = datetime.fromtimestamp(now_s, UTC).date().isoformat()
        self._day_ends_s = (now_s // DAY_S + 1) * DAY_S
        self._keys.clear()
