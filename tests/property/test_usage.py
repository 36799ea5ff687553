"""Usage: adding up in any order gives the same, and a crash at any step counts every request exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.tenant import KeyId, TenantName
from cluster.core.usage import (
    OTHER,
    RETENTION_DAYS,
    UsageBatch,
    UsageCounts,
    UsageGroup,
    UsageKey,
    days_since,
    folded,
    grouped,
    total,
)
from cluster.state.usage_files import FileTotals, segments
from cluster.state.usage_report import read_usage
from services.gateway.usage import LocalTotals, Usage
from services.gateway.usage_journal import UsageJournal

DAYS = ("2026-11-22", "2026-11-23")
NAMES = st.sampled_from(["acme", "b", 'quote" space', "line\nbreak", "ü", "[1]"])
KEYS = st.builds(
    UsageKey, day=st.sampled_from(DAYS), tenant=NAMES.map(TenantName), key_id=NAMES.map(KeyId), model=NAMES
)
NUMBERS = st.integers(0, 2**40)
COUNTS = st.builds(
    UsageCounts,
    requests=st.integers(1, 3),
    prompt_tokens=NUMBERS,
    cached_tokens=NUMBERS,
    output_tokens=NUMBERS,
    unknown_requests=st.integers(0, 1),
    broken_requests=st.integers(0, 1),
)
Records = list[tuple[UsageKey, UsageCounts]]
RECORDS = st.lists(st.tuples(KEYS, COUNTS), max_size=30)


class CrashError(Exception):
    """The process ends here."""


class Steps:
    """Ends the process before or after its n-th change of the disk."""

    def __init__(self, crash_at: int | None) -> None:
        self.done = 0
        self._crash_at = crash_at

    def step(self) -> None:
        self.done += 1
        if self.done - 1 == self._crash_at:
            raise CrashError

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "fsync")):
                patch.setattr(owner, name, self._around(getattr(owner, name)))
            yield

    def _around(self, real: Callable[..., object]) -> Callable[..., object]:
        def stepped(*arguments: object, **named: object) -> object:
            self.step()
            answer = real(*arguments, **named)
            self.step()
            return answer

        return stepped


class Away:
    """Totals that fail on some calls, before or after they have added."""

    def __init__(self, folder: Path, failures: list[str]) -> None:
        self._inner = LocalTotals(FileTotals(folder))
        self._failures = failures

    async def apply(self, batch: UsageBatch) -> bool:
        failure = self._failures.pop(0) if self._failures else ""
        if failure == "before":
            raise ConnectionError("away")
        added = await self._inner.apply(batch)
        if failure == "after":
            raise ConnectionError("no answer")
        return added


def worker(folder: Path, name: str, *failures: str) -> tuple[UsageJournal, Usage]:
    journal = UsageJournal(folder, writer=name * 8, call_soon=lambda _write: None)
    return journal, Usage(journal, Away(folder, list(failures)), clock=lambda: 0.0)


def kill(journal: UsageJournal) -> None:
    """What the kernel does with a killed process: its files are closed, nothing else."""
    for descriptor in (journal._lock, journal._active):
        if descriptor is not None:
            os.close(descriptor)
    journal._lock = journal._active = None


def note(journal: UsageJournal, records: Records) -> None:
    for key, counts in records:
        journal.record(key, counts)
    journal.write()


async def read(folder: Path) -> dict[UsageKey, UsageCounts]:
    return (await read_usage(folder=folder, state_url=None, cluster="test", days=DAYS)).sums


@given(records=RECORDS, rng=st.randoms(use_true_random=False))
def test_adding_up_in_any_order_gives_the_same(records: Records, rng: object) -> None:
    shuffled = list(records)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    middle = len(shuffled) // 2
    parts = [*folded(shuffled[:middle]).items(), *folded(shuffled[middle:]).items()]
    assert folded(parts) == folded(records)


@given(records=RECORDS, keys_max=st.integers(0, 5), by=st.sampled_from(UsageGroup))
def test_no_limit_and_no_grouping_loses_a_count(records: Records, keys_max: int, by: UsageGroup) -> None:
    sums = folded(records, keys_max=keys_max)
    everything = sum((counts for _key, counts in records), start=UsageCounts())
    assert total(sums) == everything
    assert len([key for key in sums if key.tenant != OTHER]) <= keys_max
    rows = grouped(sums, by)
    assert sum(rows.values(), start=UsageCounts()) == everything
    assert all(len(row) == len(by.columns) for row in rows)


@given(back=st.integers(1, RETENTION_DAYS), today=st.dates(date(2020, 1, 1), date(2090, 1, 1)))
def test_days_end_today_however_they_are_asked_for(back: int, today: date) -> None:
    first = today - timedelta(days=back - 1)
    assert days_since(f"{back}d", today=today) == days_since(first.isoformat(), today=today)
    days = days_since(f"{back}d", today=today)
    assert (days[0], days[-1], len(days)) == (first.isoformat(), today.isoformat(), back)


@pytest.mark.parametrize("since", ["", "0d", "-1d", "7", "7 d", "401d", "2026-13-01", "2026-11-25", "2025-01-01"])
def test_days_that_make_no_sense_are_refused(since: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        days_since(since, today=date(2026, 11, 24))


@settings(max_examples=25, deadline=None)
@given(
    turns=st.lists(st.tuples(RECORDS, st.sampled_from("abx")), max_size=8),
    failures=st.lists(st.sampled_from(["", "before", "after"]), max_size=12),
)
def test_two_workers_and_totals_that_come_and_go(turns: list[tuple[Records, str]], failures: list[str]) -> None:
    async def run(folder: Path) -> None:
        workers = {name: worker(folder, name, *failures) for name in "ab"}
        expected: list[tuple[UsageKey, UsageCounts]] = []
        for records, flushes in turns:
            for number, (journal, usage) in enumerate(workers.values()):
                note(journal, records[number::2])
                await usage.adopt()
            expected += records
            assert await read(folder) == folded(expected)
            if flushes in workers:
                await workers[flushes][1].flush()
            assert await read(folder) == folded(expected)
        kill(workers["a"][0])
        await workers["b"][1].close()
        _journal, usage = worker(folder, "c")
        await usage.adopt()
        assert await read(folder) == folded(expected)
        assert segments(folder) == []

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


async def life(folder: Path, records: Records, failure: str, steps: Steps) -> None:
    """Half the records, a flush, the rest, two flushes. After a crash a worker that lives on takes the rest."""
    journal, usage = worker(folder, "a", failure)
    middle = len(records) // 2
    note(journal, records[:middle])
    taken = middle
    with contextlib.suppress(CrashError), steps.watched():
        await usage.flush()
        note(journal, records[middle:])
        taken = len(records)
        await usage.flush()
        await usage.flush()
    kill(journal)
    other, _usage = worker(folder, "b")
    note(other, records[taken:])
    kill(other)


async def recovered(folder: Path, steps: Steps) -> None:
    """The next worker takes over, and may be killed too."""
    journal, usage = worker(folder, "c")
    with contextlib.suppress(CrashError), steps.watched():
        await usage.adopt()
    kill(journal)


async def crashed(records: Records, failure: str, *, at: int | None = None, again_at: int | None = None) -> list[int]:
    """The disk's changes in a life and in a recovery, each ended at the given step; nothing is ever lost or doubled."""
    with tempfile.TemporaryDirectory() as name:
        folder, first, second = Path(name), Steps(at), Steps(again_at)
        await life(folder, records, failure, first)
        assert await read(folder) == folded(records)
        await recovered(folder, second)
        assert await read(folder) == folded(records)
        await recovered(folder, Steps(None))
        assert await read(folder) == folded(records)
        assert segments(folder) == []
        return [first.done, second.done]


@settings(max_examples=3, deadline=None)
@given(records=st.lists(st.tuples(KEYS, COUNTS), min_size=2, max_size=10))
@pytest.mark.parametrize("failure", ["", "before", "after"])
def test_a_crash_at_every_step_counts_once(failure: str, records: Records) -> None:
    async def every() -> None:
        steps, _ = await crashed(records, failure)
        assert steps >= 4
        for at in range(steps):
            _, more = await crashed(records, failure, at=at)
            for again_at in range(0, more, 3):
                await crashed(records, failure, at=at, again_at=again_at)

    asyncio.run(every())
