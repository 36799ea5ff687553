"""Asks a set under each condition, in the order that makes the conditions true.

What must not live here: one pass (asking.py), whether conditions held (held.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from loadtest.client.aim import Aim
from loadtest.client.job import Job
from loadtest.quality.answered import Asked, Condition, Reply
from loadtest.quality.asking import Told, ask
from loadtest.quality.beside import run_beside, with_company
from loadtest.quality.question import Question
from loadtest.quality.question_set import SetOptions
from loadtest.scenarios import Context

Watch = Callable[[Condition, Reply], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What conditions are made with."""

    aim: Aim
    single: Aim | None
    """Of `single`; needed for it alone."""
    load: Job
    """Of `loaded`, a closed loop."""
    name: str
    """Of the run; request ids begin with it."""
    output_tokens: int
    """The most of an answer."""


def arguments_of(options: SetOptions, setting: Setting, context: Context, *, is_exact: bool) -> dict[str, Any]:
    """Everything it takes to ask the same again, without secrets, as JSON can hold it."""
    job = setting.load
    return {
        **asdict(options),
        "seed": context.seed,
        "salt": context.salt,
        "url": setting.aim.url,
        "single_url": None if setting.single is None else setting.single.url,
        "model": setting.aim.model,
        "tokenizer": None if job.tokenizer is None else str(job.tokenizer),
        "load": job.scenario,
        "load_settings": list(job.settings),
        "load_concurrency": job.pace.concurrency,
        "exact": is_exact,
    }


def ask_all(
    questions: Sequence[Question], conditions: Sequence[Condition], setting: Setting, watch: Watch
) -> tuple[Asked, ...]:
    """Ask every question under every condition.

    `cached` right after `uncached` is asked question by question with it: a cache that holds one prompt is enough then,
    however large the set is.

    Args:
        questions: the set.
        conditions: in the order in which they are asked.
        setting: has what they need.
        watch: told of each answer.

    Raises:
        LongreachError: a load or a transport could not be had.
    """
    found: dict[str, dict[Condition, Reply]] = {question.id: {} for question in questions}
    for group in _groups(conditions):
        for question, condition, reply in _ask_group(questions, group, setting, watch):
            found[question.id][condition] = reply
    return tuple(
        Asked(
            id=question.id,
            digest=question.digest,
            kind=question.kind,
            language=question.language,
            prompt_tokens=question.prompt_tokens,
            depth=question.depth,
            right=question.right,
            replies=found[question.id],
        )
        for question in questions
    )


def _groups(conditions: Sequence[Condition]) -> list[tuple[Condition, ...]]:
    groups: list[tuple[Condition, ...]] = []
    for condition in conditions:
        if condition is Condition.CACHED and groups and groups[-1] == (Condition.UNCACHED,):
            groups[-1] = (*groups[-1], condition)
        else:
            groups.append((condition,))
    return groups


def _ask_group(
    questions: Sequence[Question], group: Sequence[Condition], setting: Setting, watch: Watch
) -> Iterator[tuple[Question, Condition, Reply]]:
    rows = [(question, condition) for question in questions for condition in group]
    told: dict[int, Told] = {}

    def keep(place: int, one: Told) -> None:
        told[place] = one
        watch(rows[place][1], one.reply)

    aim = setting.single if group[0] is Condition.SINGLE else setting.aim
    assert aim is not None

    async def asking() -> None:
        asked = [question for question, _ in rows]
        name = f"{setting.name}-{group[0]}"
        await ask(asked, aim=aim, name=name, output_tokens=setting.output_tokens, keep=keep)

    if group[0] is Condition.LOADED:
        beside = run_beside(replace(setting.load, name=f"{setting.name}-load"), asking)
        told = dict(zip(told, with_company([*told.values()], beside), strict=True))
    else:
        asyncio.run(asking())
    return ((question, condition, told[place].reply) for place, (question, condition) in enumerate(rows))
