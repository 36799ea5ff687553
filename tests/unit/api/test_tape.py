"""A tape and its readers: every byte in order to each of them, at their own pace, and bounded memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from services.api.tape import PIECE_BYTES, Tape, TapeReader, TapeRoom
from services.gateway.upstream import FailureKind, UpstreamFailure

MANY = 2**40
FAILURE = UpstreamFailure(kind=FailureKind.RESET, detail="gone")


@dataclass
class Client:
    """Reads a tape; stops after so many pieces until it is told to go on."""

    tape: Tape
    stops_after: int = MANY
    received: list[bytes] = field(default_factory=list)
    is_over: bool = False
    broken: UpstreamFailure | None = None
    reader: TapeReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = self.tape.reader()

    def read(self) -> Client:
        self.reader.read(self)
        return self

    def data(self, payload: bytes, *, is_last: bool) -> None:
        assert not self.is_over
        self.received.append(payload)
        self.is_over = is_last
        if len(self.received) == self.stops_after:
            self.reader.pause()

    def broke_off(self, failure: UpstreamFailure) -> None:
        assert not self.is_over
        self.broken = failure

    @property
    def body(self) -> bytes:
        return b"".join(self.received)


def tape_of(*, most_bytes: int = MANY) -> tuple[Tape, TapeRoom]:
    room = TapeRoom(lambda: most_bytes)
    return Tape(200, {}, room), room


def put(tape: Tape, *pieces: bytes, ends: bool = False, most_bytes: int = MANY) -> None:
    for index, piece in enumerate(pieces):
        tape.put(piece, is_last=ends and index == len(pieces) - 1, most_bytes=most_bytes)


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=12), st.data())
def test_whoever_comes_whenever_gets_every_byte(pieces: list[bytes], data: st.DataObject) -> None:
    tape, room = tape_of()
    comes = data.draw(st.lists(st.integers(0, len(pieces)), max_size=4))
    stops = [data.draw(st.integers(1, 12)) for _ in comes]
    clients = []
    for index, piece in enumerate(pieces):
        clients += [Client(tape, stop).read() for come, stop in zip(comes, stops, strict=True) if come == index]
        put(tape, piece, ends=index == len(pieces) - 1)
    clients += [Client(tape, stop).read() for come, stop in zip(comes, stops, strict=True) if come == len(pieces)]
    tape.close()
    for client in clients:
        client.reader.resume()
        assert (client.body, client.is_over) == (b"".join(pieces), True)
    assert (room.held_bytes, tape.held_bytes) == (0, 0)


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=2, max_size=12), st.integers(0, 60), st.data())
def test_beyond_its_bounds_it_holds_what_somebody_has_to_read_only(
    pieces: list[bytes], most_bytes: int, data: st.DataObject
) -> None:
    tape, room = tape_of()
    waits: list[bool] = []
    tape.on_pace = waits.append
    clients = [Client(tape, data.draw(st.integers(1, 12))).read() for _ in range(2)]
    for index, piece in enumerate(pieces):
        put(tape, piece, ends=index == len(pieces) - 1, most_bytes=most_bytes)
        if not tape.is_whole:
            slowest = min(len(client.received) for client in clients)
            assert tape.held_bytes == sum(map(len, pieces[slowest : index + 1])) == room.held_bytes
            if index < len(pieces) - 1:
                assert (waits[-1:] == [True]) is any(client.reader.is_paused for client in clients)
    assert tape.is_whole is (sum(map(len, pieces)) <= most_bytes)
    for client in clients:
        client.reader.resume()
        assert client.body == b"".join(pieces)


def test_a_slow_reader_holds_an_answer_up_only_beyond_the_bounds() -> None:
    tape, _ = tape_of()
    waits: list[bool] = []
    tape.on_pace = waits.append
    client = Client(tape, stops_after=1).read()
    put(tape, b"a", b"b", b"c")
    assert waits == []
    put(tape, b"d", most_bytes=1)
    assert waits == [True]
    client.reader.resume()
    assert (waits, client.body) == ([True, False], b"abcd")


def test_one_reader_that_leaves_does_not_hold_up_the_others() -> None:
    tape, _ = tape_of()
    waits: list[bool] = []
    tape.on_pace = waits.append
    slow, quick = Client(tape, stops_after=1).read(), Client(tape).read()
    put(tape, b"a", b"b", most_bytes=0)
    slow.reader.close()
    assert waits == [True, False]
    put(tape, b"c", ends=True)
    assert quick.body == b"abc"


def test_what_nobody_reads_and_nobody_can_any_more_is_told() -> None:
    tape, _ = tape_of()
    told: list[bool] = []
    tape.on_unwanted = lambda: told.append(True)
    client = Client(tape).read()
    put(tape, b"a")
    client.reader.close()
    assert told == [], "somebody may still come"
    put(tape, b"b", most_bytes=1)
    assert told == [True]


def test_all_tapes_of_a_worker_have_one_bound() -> None:
    room = TapeRoom(lambda: 10)
    one, two = Tape(200, {}, room), Tape(200, {}, room)
    client = Client(two).read()
    put(one, b"12345678")
    put(two, b"1234")
    assert (one.is_whole, two.is_whole) == (True, False)
    one.close()
    two.close()
    assert room.held_bytes == 0
    assert client.body == b"1234"


def test_a_break_is_told_after_what_came_before() -> None:
    tape, room = tape_of()
    quick, slow = Client(tape).read(), Client(tape, stops_after=1).read()
    put(tape, b"a", b"b")
    tape.break_off(FAILURE)
    assert (quick.body, quick.broken) == (b"ab", FAILURE)
    assert slow.broken is None
    slow.reader.resume()
    assert (slow.body, slow.broken) == (b"ab", FAILURE)
    tape.close()
    assert room.held_bytes == 0


def test_an_answer_that_ended_before_is_read_in_pieces() -> None:
    tape, room = tape_of()
    body = bytes(PIECE_BYTES) + b"rest"
    tape.fill(body)
    client = Client(tape, stops_after=1).read()
    tape.close()
    assert len(client.body) == PIECE_BYTES
    assert room.held_bytes == len(b"rest")
    client.reader.resume()
    assert (client.body, client.is_over, room.held_bytes) == (body, True, 0)


def test_an_empty_answer_ends() -> None:
    tape, _ = tape_of()
    tape.fill(b"")
    client = Client(tape).read()
    assert (client.body, client.is_over) == (b"", True)
