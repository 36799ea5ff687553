"""What one client process is told to do, and the sessions that follow from it: the same in every process.

What must not live here: sending them (runner.py).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cluster.core.errors import SetupError
from cluster.simulator.traces import read_trace
from loadtest.arrivals import Bursts, Course, Ramp, Spacing, Steady, arrivals, parse_course, replayed
from loadtest.client.aim import Aim
from loadtest.client.runner import Pace
from loadtest.plan import Session
from loadtest.scenarios import ArrivalKind, Context, Options, Scenario, find_scenario
from loadtest.text import load_writer, ratio_writer

RATE_PER_PROCESS = 100.0
"""Sessions a second, with a hundred tokens each 10,000 events: half of what one process times well."""
CONCURRENCY_PER_PROCESS = 256
"""At forty tokens a second each, as many events."""
BURST_S = 1.0
"""How long a scenario's burst takes: at once, as people mean it, and not faster than anyone could connect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """When sessions are due in an open loop."""

    course: Course | None = None
    """None: the scenario's own times, or the trace's."""
    spacing: Spacing = Spacing.POISSON
    trace: Path | None = None
    speed: float = 1.0
    """Of a trace and of a scenario's own times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A whole run; each process takes its part. It is pickled: what cannot be is made from it."""

    name: str
    """Of the run: in request ids, so that the gateway's logs tell runs apart."""
    scenario: str
    settings: tuple[str, ...] = ()
    aim: Aim
    pace: Pace
    times: Times
    seed: int = 1
    salt: str = field(default="")
    """Of texts: another one, and nothing is cached from a run before."""
    context_tokens: int = 32_768
    tokenizer: Path | None = None
    """Folder of the model's tokenizer, for exact numbers of tokens; None: about as many."""
    samples: tuple[tuple[int, int], ...] = ()
    """Without a tokenizer: words of chats and the tokens they had, as `ratio_writer` takes them."""
    sessions_max: int | None = None
    part: int = 0
    parts: int = 1


def times_of(
    scenario: Scenario, text: str | None, rate_per_s: float | None, duration_s: float, *, speed: float = 1.0
) -> Times:
    """The due times that were asked for, else the scenario's.

    Args:
        scenario: whose are taken where nothing is asked for.
        text: as `parse_course` takes it; None: the scenario's kind.
        rate_per_s: sessions a second; None: the scenario's.
        duration_s: of the run; a scenario's ramp takes so long.
        speed: of a scenario's own times.

    Raises:
        SetupError: they cannot be read, or need a rate.
    """
    usual = scenario.arrivals
    try:
        if text is not None:
            is_ramp = text.partition("=")[0] == "ramp"
            course, spacing = parse_course(text, rate_per_s if is_ramp else rate_per_s or usual.rate_per_s or None)
            return Times(course=course, spacing=spacing)
        rate = rate_per_s or usual.rate_per_s
        match usual.kind:
            case ArrivalKind.TRACE if rate_per_s is None:
                return Times(speed=speed)
            case ArrivalKind.BURSTS:
                at_once = rate * (BURST_S + usual.idle_s) / BURST_S
                return Times(course=Bursts(rate_per_s=at_once, on_s=BURST_S, off_s=usual.idle_s))
            case ArrivalKind.RAMP if rate_per_s is None:
                last = usual.to_rate_per_s or rate
                return Times(course=Ramp(first_per_s=rate, last_per_s=last, over_s=duration_s))
        return Times(course=Steady(rate_per_s=rate))
    except ValueError as error:
        raise SetupError(str(error), "see `longreach loadtest run --help`: --arrivals, --rate") from error


def open_context(job: Job) -> Context:
    """What scenarios are made from.

    Raises:
        SetupError: the tokenizer's folder has none.
    """
    writer = ratio_writer(job.samples) if job.tokenizer is None else load_writer(job.tokenizer)
    return Context(seed=job.seed, context_tokens=job.context_tokens, writer=writer, salt=job.salt)


def pace_of(job: Job) -> Pace:
    """This process's pace: its share of what goes on at once."""
    whole, rest = divmod(job.pace.concurrency, job.parts)
    return replace(job.pace, concurrency=whole + (job.part < rest))


def parts_for(times: Times, concurrency: int, cores: int) -> int:
    """How many client processes a load takes, at most one a core and one core left for others.

    Args:
        times: of an open loop.
        concurrency: of a closed loop; 0: open.
        cores: that there are.
    """
    if concurrency:
        wanted = concurrency / CONCURRENCY_PER_PROCESS
    else:
        match times.course:
            case Steady() | Bursts():
                rate_per_s = times.course.rate_per_s
            case Ramp():
                rate_per_s = max(times.course.first_per_s, times.course.last_per_s)
            case None:
                rate_per_s = times.speed
        wanted = rate_per_s / RATE_PER_PROCESS
    return max(1, min(math.ceil(wanted), cores - 1))


def notes_of(job: Job) -> Sequence[str]:
    """What the scenario leaves out or makes smaller, each a sentence.

    Raises:
        LongreachError: the scenario, its settings or its trace are not as they should be.
    """
    return find_scenario(job.scenario).read_options(job.settings).notes(open_context(job))


def sessions_of(job: Job) -> Iterator[tuple[int, Session]]:
    """This process's sessions with their numbers in the whole run, made when they are asked for.

    Raises:
        LongreachError: the scenario, its settings or its trace are not as they should be.
    """
    scenario = find_scenario(job.scenario)
    options = scenario.read_options(job.settings)
    context = open_context(job)
    made = scenario.sessions(options, _due_s(job, options, context), context)
    numbered = itertools.islice(enumerate(made), job.sessions_max)
    return ((number, session) for number, session in numbered if number % job.parts == job.part)


def _due_s(job: Job, options: Options, context: Context) -> Iterator[float]:
    times = job.times
    if job.pace.concurrency:
        return itertools.repeat(0.0)
    if times.trace is not None:
        return replayed((one.arrival_s for one in read_trace(times.trace).requests), speed=times.speed)
    if times.course is not None:
        due_s = arrivals(times.course, seed=job.seed, spacing=times.spacing)
    else:
        own = options.due_s(context)
        if own is None:
            raise SetupError(f"scenario {job.scenario} has no due times of its own", "name --arrivals or a --rate")
        due_s = replayed(own, speed=times.speed)
    end_s = job.pace.duration_s
    # A session that is due too late need not be made.
    return due_s if math.isinf(end_s) else itertools.takewhile(lambda at_s: at_s < end_s, due_s)
