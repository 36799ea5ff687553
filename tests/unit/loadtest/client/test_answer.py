from __future__ import annotations

from array import array
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.client.answer import Answer, ErrorKind, kind_of, record_of
from loadtest.plan import Session, Turn

TURNS = (Turn(text="x", output_tokens=1, prompt_tokens=9), Turn(text="y", output_tokens=1, prompt_tokens=20))
SESSION = Session(at_s=1.0, turns=TURNS, label="chat", tenant="gold")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, ErrorKind.NONE), (400, ErrorKind.REFUSED), (401, ErrorKind.REFUSED), (429, ErrorKind.REFUSED),
        (500, ErrorKind.UNAVAILABLE), (503, ErrorKind.UNAVAILABLE), (504, ErrorKind.TIMEOUT),
    ],
)  # fmt: skip
def test_a_status_has_a_kind(status: int, kind: ErrorKind) -> None:
    assert kind_of(status) is kind


def test_the_first_reason_counts() -> None:
    answer = Answer()
    answer.fail(ErrorKind.BROKEN, "no_done")
    answer.fail(ErrorKind.TIMEOUT, "late")
    assert (answer.error, answer.code) == (ErrorKind.BROKEN, "no_done")


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50).map(lambda steps: list(accumulate(steps, initial=100.0))))
def test_gaps_add_up_to_when_events_came(times: list[float]) -> None:
    answer = Answer(is_stream=True, event_times=array("d", times), ended_s=times[-1])
    record = record_of(answer, SESSION, number=3, turn=0, due_s=1.0, begin_s=100.0)
    assert record.first_token_s is not None
    # Rounded to microseconds once, not once a gap: errors do not add up.
    assert record.first_token_s + sum(record.gaps_s) == pytest.approx(times[-1] - 100.0, abs=1e-6)
    assert len(record.gaps_s) == len(times) - 1


def test_an_answer_that_is_no_stream_has_no_gaps() -> None:
    answer = Answer(event_times=array("d", [5.0]), ended_s=5.0, sent_s=2.0)
    record = record_of(answer, SESSION, number=0, turn=1, due_s=2.0, begin_s=1.0)
    assert (record.first_token_s, list(record.gaps_s), record.sent_s, record.ended_s) == (4.0, [], 1.0, 4.0)
    assert (record.label, record.tenant, record.turn, record.planned_tokens) == ("chat", "gold", 1, 20)
