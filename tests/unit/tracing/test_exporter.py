"""A sink that is slow, or gone, costs nobody anything but its spans."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from services.tracing.exporter import BATCH_SPANS, QUEUE_SPANS_MAX, Exporter


class Sink:
    """Takes spans when it is let."""

    def __init__(self, *, fails: bool = False, waits: bool = False) -> None:
        self.sent: list[bytes] = []
        self.batches: list[int] = []
        self.is_closed = False
        self.entered = threading.Event()
        self.may_go = threading.Event()
        self._fails = fails
        if not waits:
            self.may_go.set()

    def send(self, spans: Sequence[bytes]) -> None:
        self.entered.set()
        self.may_go.wait()
        if self._fails:
            raise ConnectionError("nobody there")
        self.batches.append(len(spans))
        self.sent += spans

    def close(self) -> None:
        self.is_closed = True


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def test_everything_arrives_in_order_and_batches() -> None:
    sink = Sink()
    exporter = Exporter(sink)
    spans = numbered(3 * BATCH_SPANS + 7)
    exporter.take(spans)
    exporter.close()
    assert sink.sent == spans
    assert max(sink.batches) <= BATCH_SPANS
    assert (exporter.exported, exporter.failed, exporter.dropped) == (len(spans), 0, 0)
    assert sink.is_closed


def test_what_is_not_taken_is_counted_and_not_kept() -> None:
    exporter = Exporter(Sink(fails=True))
    exporter.take(numbered(BATCH_SPANS + 1))
    exporter.close()
    assert (exporter.exported, exporter.failed) == (0, BATCH_SPANS + 1)


def test_what_finds_no_room_is_dropped_at_once() -> None:
    sink = Sink(waits=True)
    exporter = Exporter(sink)
    exporter.take(numbered(BATCH_SPANS))
    sink.entered.wait()
    taken = 0
    while not exporter.dropped:
        exporter.take(numbered(100))
        taken += 100
    assert QUEUE_SPANS_MAX <= taken <= QUEUE_SPANS_MAX + 200
    assert exporter.dropped == 100
    sink.may_go.set()
    exporter.close()
    assert exporter.exported == BATCH_SPANS + taken - 100


def test_a_sink_that_hangs_does_not_hold_up_the_end(monkeypatch: object) -> None:
    from services.tracing import exporter as module

    sink = Sink(waits=True)
    exporter = Exporter(sink)
    exporter.take(numbered(BATCH_SPANS))
    sink.entered.wait()
    monkeypatch.setattr(module, "CLOSE_S", 0.01)  # type: ignore[attr-defined]
    exporter.close()
    assert sink.is_closed
    sink.may_go.set()
