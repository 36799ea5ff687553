"""Figures of a run, ours as a judge would tell them."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest

from cluster.models.tiny import tiny_tokenizer
from loadtest.client.job import sessions_of
from loadtest.judges.load import Load
from loadtest.judges.ours import job_of, taken_of
from loadtest.judges.taken import Taken, Timed, figures_of
from loadtest.text import load_writer
from services.gateway.tokenizer import load_counting
from tests.judged import LOAD, goal
from tests.loadtest_runs import first_prompt_tokens, record, refused, run


def test_our_times_count_from_sending() -> None:
    late = record(due_s=1.0, sent_s=1.5, first_token_s=1.7, gaps_s=[0.1, 0.3], ended_s=2.2, output_tokens=3)
    taken = taken_of(run(late, refused()))
    (answer,) = taken.answers
    assert taken.failed == 1
    assert answer.ttft_s == pytest.approx(0.2)
    assert answer.decode_s == pytest.approx(0.4)
    assert answer.late_s == pytest.approx(0.5)
    found = figures_of(taken)
    assert found.due_ttft_p50_s == pytest.approx(0.7)
    assert found.tpot_mean_s == pytest.approx(0.2)


def test_rates_are_over_the_first_sending_to_the_last_token() -> None:
    answers = [
        Timed(sent_s=sent, ttft_s=0.5, decode_s=0.5, prompt_tokens=10, output_tokens=6)
        for sent in (100.0, 101.0, 103.0)
    ]
    found = figures_of(Taken(answers=answers, failed=0))
    assert found.requests_per_s == pytest.approx(3 / 4)
    assert found.output_tokens_per_s == pytest.approx(18 / 4)
    assert isnan(found.late_p95_s)


def test_no_answer_has_no_figures() -> None:
    found = figures_of(Taken(answers=(), failed=3))
    assert (found.answered, found.failed) == (0, 3)
    assert isnan(found.ttft_mean_s)
    assert isnan(found.requests_per_s)
    assert isnan(found.prompt_tokens)


def test_an_answer_of_one_token_has_no_tpot() -> None:
    one = Timed(sent_s=0, ttft_s=1, decode_s=0, prompt_tokens=1, output_tokens=1)
    assert isnan(figures_of(Taken(answers=[one], failed=0)).tpot_mean_s)


@pytest.mark.parametrize(
    ("load", "due_s"),
    [
        (LOAD, [0.0, 0.4, 0.8, 1.2, 1.6]),
        (replace(LOAD, rate_per_s=None, concurrency=2), [0.0] * 5),
    ],
)
def test_our_client_sends_the_load_that_judges_send(load: Load, due_s: list[float], tmp_path: Path) -> None:
    tiny_tokenizer().write(tmp_path)
    counting = load_counting(tmp_path)
    assert counting is not None
    template = load_writer(tmp_path).wrapping.chat_tokens
    job = job_of(load, goal(tmp_path, template_tokens=template), name="lj-1-0", seed=3)
    sessions = [session for _, session in sessions_of(job)]
    assert [session.at_s for session in sessions] == pytest.approx(due_s)
    assert [first_prompt_tokens(session, counting) for session in sessions] == [60] * 5
    assert {session.turns[0].output_tokens for session in sessions} == {8}
    assert job.pace.concurrency == load.concurrency
