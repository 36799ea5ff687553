"""Asks a set under each condition, in the order that makes the conditions true.

What must not live here: one pass (asking.py), whether conditions held (held.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from loadtest.client.aim import Aim
from loadtest.client.job import Job
from loadtest.quality.answered import Asked, Condition, Reply
from loadtest.quality.asking import Told, ask
from loadtest.quality.beside import run_beside, with_company
from loadtest.quality.question import Question
from loadtest.quality.question_set import SetOptions
from loadtest.scenarios import Context

ALIKE = "short-chat"
"""The scenario of a load of prompts as long as the questions."""
ALIKE_OUTPUT_TOKENS = 64
Watch = Callable[[Condition, Reply], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What conditions are made with."""

    aim: Aim
    single: Aim | None
    """Of `single`; needed for it alone."""
    load: Job
    """Of `loaded`, a closed loop."""
    is_load_alike: bool
    """Whether the load is chats as long as the question under way, whatever the job's scenario: they go to its pool."""
    name: str
    """Of the run; request ids begin with it."""
    output_tokens: int
    """The most of an answer."""


def arguments_of(options: SetOptions, setting: Setting, context: Context, *, is_exact: bool) -> dict[str, Any]:
    """Everything it takes to ask the same again, without secrets, as JSON can hold it."""
    job = setting.load
    is_alike = setting.is_load_alike
    return {
        "lengths": list(options.lengths),
        "depths": list(options.depths),
        "kinds": [str(kind) for kind in options.kinds],
        "languages": [str(language) for language in options.languages],
        "repeats": options.repeats,
        "output_tokens": options.output_tokens,
        "seed": context.seed,
        "salt": context.salt,
        "url": setting.aim.url,
        "single_url": None if setting.single is None else setting.single.url,
        "model": setting.aim.model,
        "tokenizer": None if job.tokenizer is None else str(job.tokenizer),
        "load": f"{ALIKE}, as long as the question" if is_alike else job.scenario,
        "load_settings": [] if is_alike else list(job.settings),
        "load_concurrency": job.pace.concurrency,
        "exact": is_exact,
    }


def ask_all(
    questions: Sequence[Question], conditions: Sequence[Condition], setting: Setting, watch: Watch
) -> Iterator[tuple[tuple[Condition, ...], tuple[Asked, ...]]]:
    """Ask every question under every condition; gives after each pass the conditions so far and all that was answered.

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
    so_far: tuple[Condition, ...] = ()
    for group in _groups(conditions):
        for question, condition, reply in _ask_group(questions, group, setting, watch):
            found[question.id][condition] = reply
        so_far += group
        yield so_far, tuple(_asked(question, found[question.id]) for question in questions)


def _asked(question: Question, replies: Mapping[Condition, Reply]) -> Asked:
    return Asked(
        id=question.id,
        digest=question.digest,
        kind=question.kind,
        language=question.language,
        prompt_tokens=question.prompt_tokens,
        depth=question.depth,
        right=question.right,
        replies=dict(replies),
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
    if group != (Condition.LOADED,):
        aim = setting.single if group == (Condition.SINGLE,) else setting.aim
        assert aim is not None
        asking = _Asking(questions, group, aim, setting, watch)
        asyncio.run(asking.run())
        yield from asking.replies()
        return
    for job, among in _loads(questions, setting):
        asking = _Asking(among, group, setting.aim, setting, watch)
        beside = run_beside(job, asking.run)
        asking.told = with_company(asking.told, beside)
        yield from asking.replies()


def _loads(questions: Sequence[Question], setting: Setting) -> Iterator[tuple[Job, list[Question]]]:
    """Each load with the questions that are asked beside it."""
    load = replace(setting.load, name=f"{setting.name}-load")
    if not setting.is_load_alike:
        yield load, [*questions]
        return
    for length, among in groupby(questions, lambda one: one.prompt_tokens):
        settings = (f"prompt_tokens={length}", f"output_tokens={ALIKE_OUTPUT_TOKENS}", "spread=0")
        # Else a shorter prompt would be the beginning of a longer one, and cached.
        yield replace(load, scenario=ALIKE, settings=settings, salt=f"{load.salt}-{length}"), [*among]


class _Asking:
    """One pass: the rows that are asked, and what was told."""

    def __init__(
        self, questions: Sequence[Question], group: Sequence[Condition], aim: Aim, setting: Setting, watch: Watch
    ) -> None:
        self._rows = [(question, condition) for question in questions for condition in group]
        self._aim = aim
        self._setting = setting
        self._watch = watch
        self.told: list[Told] = []

    async def run(self) -> None:
        """Ask."""
        await ask(
            [question for question, _ in self._rows],
            aim=self._aim,
            name=f"{self._setting.name}-{self._rows[0][1]}",
            output_tokens=self._setting.output_tokens,
            keep=self._keep,
        )

    def replies(self) -> Iterator[tuple[Question, Condition, Reply]]:
        """By question and condition."""
        return ((*row, told.reply) for row, told in zip(self._rows, self.told, strict=True))

    def _keep(self, told: Told) -> None:
        self._watch(self._rows[len(self.told)][1], told.reply)
        self.told.append(told)
