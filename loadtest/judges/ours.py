"""Our own client on a judge's load: its job, and its records as a judge would tell them.

What must not live here: sending (loadtest/client).
"""

from __future__ import annotations

from math import inf

from loadtest.arrivals import Steady
from loadtest.client.aim import Aim
from loadtest.client.job import Job, Times
from loadtest.client.runner import IN_FLIGHT_MAX, Pace
from loadtest.judges.load import Goal, Load
from loadtest.judges.taken import Taken, Timed
from loadtest.record import Record, Run

SCENARIO = "short-chat"


def job_of(load: Load, goal: Goal, *, name: str, seed: int) -> Job:
    """The run of our client; its words follow from its name, so that they are new."""
    return Job(
        name=name,
        scenario=SCENARIO,
        settings=(f"prompt_tokens={load.prompt_tokens}", f"output_tokens={load.output_tokens}", "spread=0"),
        aim=Aim(url=goal.url, model=goal.model, api_key=goal.api_key, ca_file=goal.ca_file),
        pace=Pace(duration_s=inf, concurrency=load.concurrency, in_flight_max=IN_FLIGHT_MAX),
        times=Times(
            course=None if load.rate_per_s is None else Steady(rate_per_s=load.rate_per_s), spacing=load.spacing
        ),
        seed=seed,
        salt=name,
        context_tokens=goal.context_tokens,
        tokenizer=goal.tokenizer,
        sessions_max=load.requests,
    )


def taken_of(run: Run) -> Taken:
    """What our client measured, from sending."""
    answers = [timed for record in run.records if (timed := _timed(record)) is not None]
    return Taken(answers=answers, failed=len(run.records) - len(answers))


def _timed(record: Record) -> Timed | None:
    if record.error or record.first_token_s is None:
        return None
    return Timed(
        sent_s=record.sent_s,
        ttft_s=record.first_token_s - record.sent_s,
        decode_s=sum(record.gaps_s),
        prompt_tokens=record.prompt_tokens,
        output_tokens=record.output_tokens,
        late_s=record.sent_s - record.due_s,
    )
