"""One answer for several readers: each gets all of it, from its beginning, at its own pace.

The answer's bytes are kept as they come, within bounds. Beyond those nobody can join any more, and the answer flows as
any other does: at the pace of its slowest reader. What must not live here: where it comes from (taping.py), who reads
and what is kept for later (repeats.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from services.gateway.upstream import AnswerReader, UpstreamFailure

PIECE_BYTES = 64 * 1024
"""How an answer that is whole already is read: a client that reads slowly makes it wait between two."""


@dataclass(slots=True)
class TapeRoom:
    """What all tapes of a worker hold together, and may."""

    most_bytes: Callable[[], int]
    """As configured now."""
    held_bytes: int = 0

    def fits(self, size_bytes: int) -> bool:
        """Whether there is room for so much more; an answer of any size fits where there is no other."""
        return not self.held_bytes or self.held_bytes + size_bytes <= self.most_bytes()


class Tape:
    """An answer under way, or one that has ended."""

    def __init__(self, status: int, headers: Mapping[str, str], room: TapeRoom) -> None:
        self.status = status
        self.headers = headers
        self.broken: UpstreamFailure | None = None
        self.is_complete = False
        self.is_whole = True
        """Whether it can be read from its beginning."""
        self.held_bytes = 0
        self.on_pace: Callable[[bool], None] = _nobody
        """Told whether the answer has to wait for its readers."""
        self.on_unwanted: Callable[[], object] = _nothing
        """Told that nobody reads it, and nobody can any more."""
        self._room = room
        self._pieces: list[bytes] = []
        self._gone = 0
        self._readers: set[TapeReader] = set()
        self._must_wait = False

    @property
    def end(self) -> int:
        """Pieces so far."""
        return self._gone + len(self._pieces)

    @property
    def body(self) -> bytes:
        """All of it, where it is whole."""
        return b"".join(self._pieces)

    def reader(self) -> TapeReader:
        """Read from the beginning; only where it is whole."""
        assert self.is_whole
        return TapeReader(self)

    def put(self, piece: bytes, *, is_last: bool, most_bytes: int) -> None:
        """The next bytes.

        Args:
            piece: the bytes; empty only at the end.
            is_last: nothing follows.
            most_bytes: that this answer may hold.
        """
        self._pieces.append(piece)
        self.held_bytes += len(piece)
        self._room.held_bytes += len(piece)
        self.is_complete = is_last
        if self.held_bytes > most_bytes or self._room.held_bytes > self._room.most_bytes():
            self.is_whole = False
        self._wake()

    def fill(self, body: bytes) -> None:
        """All of an answer that ended before; it is held for those who read it now."""
        pieces = [body[begin : begin + PIECE_BYTES] for begin in range(0, len(body), PIECE_BYTES)] or [b""]
        self._pieces += pieces
        self.held_bytes += len(body)
        self._room.held_bytes += len(body)
        self.is_complete = True

    def break_off(self, failure: UpstreamFailure) -> None:
        """Nothing follows, and it is not complete."""
        if not self.is_complete and self.broken is None:
            self.broken = failure
            self._wake()

    def close(self) -> None:
        """Nobody joins any more; what its readers still have to read stays until they have."""
        self.on_unwanted = _nothing
        self.is_whole = False
        self.trim()

    def from_piece(self, at: int) -> bytes:
        """One piece; readers ask in order."""
        return self._pieces[at - self._gone]

    def join(self, reader: TapeReader) -> None:
        """A reader has begun."""
        self._readers.add(reader)

    def leave(self, reader: TapeReader) -> None:
        """It reads no further."""
        self._readers.discard(reader)
        self.trim()

    def trim(self) -> None:
        """Beyond the bounds, forget what everybody has, and wait for the slowest."""
        if self.is_whole:
            return
        passed = min((reader.at for reader in self._readers), default=self.end) - self._gone
        freed = sum(map(len, self._pieces[:passed]))
        del self._pieces[:passed]
        self._gone += passed
        self.held_bytes -= freed
        self._room.held_bytes -= freed
        if self.is_complete or self.broken is not None:
            return
        if not self._readers:
            self.on_unwanted()
            return
        must_wait = any(reader.is_paused for reader in self._readers)
        if must_wait is not self._must_wait:
            self._must_wait = must_wait
            self.on_pace(must_wait)

    def _wake(self) -> None:
        for reader in tuple(self._readers):
            reader.go_on()
        self.trim()


class TapeReader:
    """Stands for an engine's answer."""

    __slots__ = ("_reader", "_tape", "at", "headers", "is_paused", "status")

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._reader: AnswerReader | None = None
        self.at = 0
        """Pieces read."""
        self.is_paused = False
        self.status = tape.status
        self.headers = tape.headers
        tape.join(self)

    def read(self, reader: AnswerReader) -> None:
        """Hand over what is here, and from now on every byte as it comes."""
        self._reader = reader
        self.go_on()

    def pause(self) -> None:
        """Read no further for now."""
        self.is_paused = True
        self._tape.trim()

    def resume(self) -> None:
        """Read on."""
        self.is_paused = False
        self.go_on()
        self._tape.trim()

    def close(self) -> None:
        """Read no further; the answer goes on for others."""
        self._reader = None
        self._tape.leave(self)

    def go_on(self) -> None:
        """Read what has come."""
        for piece, is_last in self._unread():
            reader = self._reader
            if reader is None:
                return
            reader.data(piece, is_last=is_last)
            if is_last:
                self.close()
        if self._reader is not None and self._tape.broken is not None and self.at == self._tape.end:
            reader, self._reader = self._reader, None
            self._tape.leave(self)
            reader.broke_off(self._tape.broken)

    def _unread(self) -> Iterator[tuple[bytes, bool]]:
        tape = self._tape
        while self._reader is not None and not self.is_paused and self.at < tape.end:
            piece = tape.from_piece(self.at)
            self.at += 1
            yield piece, tape.is_complete and self.at == tape.end


def _nothing() -> None:
    """Nobody has to be told."""


def _nobody(_must_wait: bool) -> None:  # noqa: FBT001 - a callback's one argument
    """Asked to wait where nothing can."""
