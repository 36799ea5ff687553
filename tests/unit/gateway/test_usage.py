"""The usage journal where the disk or the totals refuse, and the turn of a day."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from cluster.core.errors import SetupError
from cluster.core.outcome import ReplicaOutcome
from cluster.core.tenant import KeyId, TenantName
from cluster.core.usage import UsageBatch, UsageCounts, UsageKey, counts_of
from cluster.state.usage_files import FileTotals, line_head, line_tail, read_segment, segments
from services.gateway import usage_journal
from services.gateway.usage import LocalTotals, Usage
from services.gateway.usage_journal import UsageJournal, take_over

DAY = "1970-01-01"
ACME = TenantName("acme")
KEY = KeyId("k1")
ONE = UsageCounts(requests=1, prompt_tokens=100, cached_tokens=64, output_tokens=7)
WHO = UsageKey(day=DAY, tenant=ACME, key_id=KEY, model="demo")
WRITER = "aaaaaaaa"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Totals:
    """Remembers batches; away on demand."""

    def __init__(self) -> None:
        self.batches: list[UsageBatch] = []
        self.is_away = False

    async def apply(self, batch: UsageBatch) -> bool:
        if self.is_away:
            raise ConnectionError("away")
        self.batches.append(batch)
        return True


class Turn:
    """An event loop's turn, ended by hand."""

    def __init__(self) -> None:
        self.callbacks: list[object] = []

    def call_soon(self, callback: object) -> None:
        self.callbacks.append(callback)

    def end(self) -> None:
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()  # type: ignore[operator]


@pytest.fixture
def turn() -> Turn:
    return Turn()


@pytest.fixture
def journal(tmp_path: Path, turn: Turn) -> UsageJournal:
    return UsageJournal(tmp_path, writer=WRITER, call_soon=turn.call_soon)


@pytest.mark.parametrize(
    ("outcome", "is_broken", "counts"),
    [
        (
            ReplicaOutcome(prompt_tokens=10, output_tokens=3, cached_tokens=8),
            False,
            UsageCounts(requests=1, prompt_tokens=10, cached_tokens=8, output_tokens=3),
        ),
        (None, False, UsageCounts(requests=1, unknown_requests=1)),
        (None, True, UsageCounts(requests=1, unknown_requests=1, broken_requests=1)),
        (
            ReplicaOutcome(prompt_tokens=10, output_tokens=3),
            True,
            UsageCounts(requests=1, prompt_tokens=10, output_tokens=3, broken_requests=1),
        ),
    ],
)
def test_what_one_request_counts(outcome: ReplicaOutcome | None, is_broken: bool, counts: UsageCounts) -> None:
    assert counts_of(outcome, is_broken=is_broken) == counts


def test_one_write_a_turn(journal: UsageJournal, turn: Turn, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[int] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, text: writes.append(len(text)) or real(descriptor, text))
    for _ in range(5):
        journal.record(WHO, ONE)
    assert len(turn.callbacks) == 1
    assert writes == []
    turn.end()
    assert len(writes) == 1
    [name] = segments(journal.folder)
    assert read_segment(name.path(journal.folder)).sums[WHO].requests == 5
    assert journal.pending_bytes == name.path(journal.folder).stat().st_size


async def test_requests_are_counted_on_the_day_they_end(journal: UsageJournal) -> None:
    now = [86_399.9]
    totals = Totals()
    usage = Usage(journal, totals, clock=lambda: now[0])
    usage.record(ACME, KEY, "demo", ONE)
    now[0] += 0.1
    usage.record(ACME, KEY, "demo", ONE)
    assert await usage.flush()
    assert sorted(key.day for key in totals.batches[0].sums) == ["1970-01-01", "1970-01-02"]


async def test_what_waits_is_compacted_and_handed_in_later(
    journal: UsageJournal, turn: Turn, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_journal, "SEGMENT_BYTES_MAX", 2000)
    told: list[tuple[int, int]] = []
    totals = Totals()
    usage = Usage(journal, totals, clock=lambda: 0.0, report=lambda pending, dropped: told.append((pending, dropped)))
    totals.is_away = True
    for _ in range(10):
        for _ in range(100):
            usage.record(ACME, KEY, "demo", ONE)
        turn.end()
        assert not await usage.flush()
    assert len(segments(journal.folder)) == 10
    assert journal.pending_bytes == sum(name.path(journal.folder).stat().st_size for name in segments(journal.folder))
    assert journal.pending_bytes < 10 * 80
    assert told[-1] == (journal.pending_bytes, 0)
    assert caplog.text.count("the journal waits") == 1
    totals.is_away = False
    assert await usage.flush()
    assert sum(batch.sums[WHO].requests for batch in totals.batches) == 1000
    assert [batch.sequence for batch in totals.batches] == list(range(10))
    assert segments(journal.folder) == []
    assert told[-1] == (0, 0)


async def test_a_full_folder_loses_usage_loudly_and_nothing_else(
    tmp_path: Path, turn: Turn, caplog: pytest.LogCaptureFixture
) -> None:
    journal = UsageJournal(tmp_path, writer=WRITER, call_soon=turn.call_soon, pending_bytes_max=400)
    totals = Totals()
    usage = Usage(journal, totals, clock=lambda: 0.0)
    for _ in range(20):
        usage.record(ACME, KEY, "demo", ONE)
        turn.end()
    assert 0 < journal.pending_bytes <= 400
    assert caplog.text.count("usage is being lost") == 1
    assert await usage.flush()
    usage.record(ACME, KEY, "demo", ONE)
    assert await usage.flush()
    kept = sum(batch.sums[WHO].requests for batch in totals.batches)
    assert kept + journal.dropped_records == 21
    assert "usage is counted again" in caplog.text


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_full_disk_is_tried_again(
    journal: UsageJournal, turn: Turn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_torn: bool
) -> None:
    real = os.write
    journal.record(WHO, ONE)
    turn.end()

    def refuse(descriptor: int, text: bytes) -> int:
        if not is_torn:
            raise OSError(errno.ENOSPC, "no space left")
        return real(descriptor, text[:10])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        for _ in range(3):
            journal.record(WHO, ONE)
            turn.end()
    assert caplog.text.count("cannot be written") == 1
    journal.record(WHO, ONE)
    turn.end()
    [name] = segments(journal.folder)
    found = read_segment(name.path(journal.folder))
    assert found.sums[WHO].requests == 5
    assert found.damaged_lines == 0
    assert journal.dropped_records == 0


def test_a_disk_that_refuses_for_long_costs_usage_not_memory(
    journal: UsageJournal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(usage_journal, "UNWRITTEN_BYTES_MAX", 500)
    monkeypatch.setattr(os, "open", lambda *_arguments: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
    for _ in range(100):
        journal.record(WHO, ONE)
        journal.write()
    assert journal.dropped_records > 80
    assert caplog.text.count("usage is being lost") == 1


def test_lines_cut_or_damaged_by_a_crash_are_left_out(tmp_path: Path) -> None:
    good = line_head(WHO) + line_tail(ONE)
    path = tmp_path / "segment"
    path.write_bytes(good + b"\0" * 40 + b"\n" + b"[1,2] 1\n" + good + good[:-1])
    found = read_segment(path)
    assert found.sums == {WHO: ONE + ONE}
    assert found.damaged_lines == 2


async def test_a_segment_somebody_removed_holds_nothing_up(
    journal: UsageJournal, turn: Turn, caplog: pytest.LogCaptureFixture
) -> None:
    totals = Totals()
    usage = Usage(journal, totals, clock=lambda: 0.0)
    usage.record(ACME, KEY, "demo", ONE)
    turn.end()
    segments(journal.folder)[0].path(journal.folder).unlink()
    assert await usage.flush()
    assert "was removed by somebody" in caplog.text
    usage.record(ACME, KEY, "demo", ONE)
    assert await usage.flush()
    assert len(totals.batches) == 1


async def test_a_live_worker_keeps_its_segments(journal: UsageJournal, tmp_path: Path) -> None:
    journal.record(WHO, ONE)
    journal.write()
    totals = Totals()
    other = Usage(UsageJournal(tmp_path, writer="bbbbbbbb", call_soon=lambda _write: None), totals, clock=lambda: 0.0)
    assert take_over(tmp_path, WRITER) is None
    await other.adopt()
    assert totals.batches == []
    journal.close()
    await other.adopt()
    assert [batch.writer for batch in totals.batches] == [WRITER]
    await other.close()
    assert names(tmp_path) == []


async def test_stopping_hands_in_the_rest(journal: UsageJournal, tmp_path: Path) -> None:
    usage = Usage(journal, LocalTotals(FileTotals(tmp_path)), clock=lambda: 0.0)
    usage.record(ACME, KEY, "demo", ONE)
    await usage.close()
    assert FileTotals(tmp_path).read([DAY])[DAY].sums == {WHO: ONE}
    assert names(tmp_path) == ["totals", f"totals-{DAY}.json"]


def test_old_days_are_forgotten(tmp_path: Path) -> None:
    totals = FileTotals(tmp_path)
    for sequence, day in enumerate(("2024-01-01", "2025-12-31", "2026-11-22")):
        key = UsageKey(day=day, tenant=ACME, key_id=KEY, model="demo")
        assert totals.apply(UsageBatch(writer=WRITER, sequence=sequence, sums={key: ONE}))
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["totals-2025-12-31.json", "totals-2026-11-22.json"]


def test_a_folder_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="usage cannot be journalled"):
        UsageJournal(tmp_path / "file" / "usage", writer=WRITER, call_soon=lambda _write: None)


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
