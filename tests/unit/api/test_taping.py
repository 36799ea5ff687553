"""What is known of an answer that was taped, whether or not all of it is held."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from cluster.core.outcome import ReplicaOutcome
from cluster.core.request import Route
from services.api.tape import TapeRoom
from services.api.taping import Taping
from services.gateway.upstream import AnswerReader, UpstreamFailure

MANY = 2**40
USAGE = b'"usage":{"prompt_tokens":7,"completion_tokens":3}}'
OUTCOME = ReplicaOutcome(prompt_tokens=7, output_tokens=3, cached_tokens=0)
DONE = b"data: [DONE]\n\n"


class Engine:
    """An answer whose bytes a test hands over."""

    status = 200

    def __init__(self, content_type: str) -> None:
        self.headers: Mapping[str, str] = {"content-type": content_type}

    def read(self, reader: AnswerReader) -> None:
        raise AssertionError(reader)

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def close(self) -> None: ...


class Client:
    """Reads whatever comes."""

    def data(self, payload: bytes, *, is_last: bool) -> None: ...

    def broke_off(self, failure: UpstreamFailure) -> None:
        raise AssertionError(failure)


def taped(
    *pieces: bytes, content_type: str, is_static: bool = False, most_bytes: int = MANY, room_bytes: int = MANY
) -> Taping:
    """An answer that has ended, and that a client has read."""
    taping = Taping(
        Engine(content_type),
        Route.CHAT,
        TapeRoom(lambda: room_bytes),
        is_static=is_static,
        most_bytes=lambda: most_bytes,
    )
    taping.tape.reader().read(Client())
    for index, piece in enumerate(pieces, 1):
        taping.data(piece, is_last=index == len(pieces))
    return taping


@pytest.mark.parametrize(("most_bytes", "room_bytes"), [(MANY, MANY), (100, MANY), (MANY, 100)])
@pytest.mark.parametrize("pieces", [[USAGE], [USAGE[:20], USAGE[20:]], [USAGE, b""], [USAGE, b"\n" * 200]])
def test_what_a_foreign_answer_cost_is_known_also_where_it_is_not_whole(
    pieces: list[bytes], most_bytes: int, room_bytes: int
) -> None:
    taping = taped(
        b'{"choices":["' + b"x" * 9000 + b'"],',
        *pieces,
        content_type="application/json",
        is_static=True,
        most_bytes=most_bytes,
        room_bytes=room_bytes,
    )
    assert taping.outcome == OUTCOME


@pytest.mark.parametrize("before", [b"", b'data: {"choices":[]}\n\n'])
@pytest.mark.parametrize("error", [b'data: {"error": 1}\n\n', b"event: error\n\n", b"event: response.failed\n\n"])
def test_a_stream_with_an_error_in_it_is_not_kept(before: bytes, error: bytes) -> None:
    assert taped(before, error, DONE, content_type="text/event-stream").kept(bytes(16)) is None


def test_a_stream_whose_text_looks_like_an_error_is_kept() -> None:
    pieces = (b'data: {"text": "data: {\\"error\\" event: error"}\n\n', DONE)
    answer = taped(*pieces, content_type="text/event-stream").kept(bytes(16))
    assert answer is not None
    assert answer.body == b"".join(pieces)
