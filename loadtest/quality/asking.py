"""Asks questions one at a time with the load client, and keeps what was answered.

What must not live here: a load beside (beside.py), which conditions there are (passes.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from loadtest.client.aim import Aim
from loadtest.client.answer import Answer
from loadtest.client.runner import Pace, Runner
from loadtest.client.worker import open_transport
from loadtest.plan import Session, Turn
from loadtest.quality.answered import Reply
from loadtest.quality.question import Question
from loadtest.quality.scoring import is_right
from loadtest.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An answer as it came, with its times on `time.monotonic()`."""

    reply: Reply
    sent_s: float
    ended_s: float


async def ask(
    questions: Iterable[Question],
    *,
    aim: Aim,
    name: str,
    output_tokens: int,
    keep: Callable[[Told], None],
) -> None:
    """Ask each question when the one before was answered, greedily.

    Args:
        questions: in order.
        aim: where to.
        name: of the run; request ids begin with it.
        output_tokens: the most of an answer.
        keep: gets what was answered, in the questions' order.

    Raises:
        SetupError: a file of TLS cannot be read.
    """
    asked = tuple(questions)
    last = [Answer()]

    def seen(answer: Answer) -> None:
        last[0] = answer

    def keep_record(record: Record) -> None:
        keep(_told(asked[record.session], last[0], record))

    aim = replace(aim, temperature=0.0, wants_token_ids=True)
    transport = open_transport(aim)
    runner = Runner(transport, aim=aim, pace=Pace(concurrency=1), name=name, keep=keep_record, seen=seen)
    try:
        await runner.run(_sessions(asked, output_tokens), 0.0)
    finally:
        await transport.close()


def _sessions(questions: Iterable[Question], output_tokens: int) -> Iterator[tuple[int, Session]]:
    for number, question in enumerate(questions):
        turn = Turn(text=question.text, output_tokens=output_tokens, prompt_tokens=question.prompt_tokens)
        yield number, Session(at_s=0.0, turns=(turn,), label=question.id, is_exact=False)


def _told(question: Question, answer: Answer, record: Record) -> Told:
    text = "" if answer.error else answer.said()
    reply = Reply(
        text=text,
        token_ids=() if answer.error else tuple(answer.token_ids()),
        error=record.error,
        code=record.code,
        is_right=not answer.error and is_right(question, text),
        pool=record.pool,
        replica=record.replica,
        prompt_tokens=record.prompt_tokens,
        cached_tokens=record.cached_tokens,
        seconds=round(answer.ended_s - answer.sent_s, 6),
        beside=0,
    )
    return Told(reply=reply, sent_s=answer.sent_s, ended_s=answer.ended_s)
