"""Whether two conditions gave the same answers, and how many answers are right.

What must not live here: statistics (paired.py), tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeVar

from cluster.core.errors import SetupError
from loadtest.quality.answered import Asked, Condition, QualityRun, Reply
from loadtest.quality.held import failing
from loadtest.quality.paired import Pairs, chance, difference_interval, pairs_of
from loadtest.report.compare import share_interval

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Right answers among some questions; one without an answer is not right."""

    questions: int
    right: int

    @property
    def ratio(self) -> float:
        """Of the questions."""
        return self.right / self.questions

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95%."""
        return share_interval(self.right, self.questions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A question with two different answers."""

    id: str
    place: int
    """Of the first token that differs, or character where tokens were not told, from 0."""
    first: Reply
    second: Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two conditions side by side."""

    first: str
    second: str
    is_exact: bool
    """Whether answers have to be equal; else accuracy has to agree."""
    by_tokens: bool
    """Whether all answers told their tokens; else texts were compared."""
    unanswered: tuple[str, ...]
    """Questions that have no answer under one of the conditions, or under both."""
    equal: int
    splits: tuple[Split, ...]
    pairs: Pairs
    low: float
    """Of the difference of accuracy, second minus first."""
    high: float
    chance: float
    """Of McNemar's exact test."""

    @property
    def agrees(self) -> bool:
        """The verdict: equal, or with an interval that holds 0; and everything answered."""
        if self.unanswered:
            return False
        return not self.splits if self.is_exact else self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A run judged."""

    comparisons: tuple[Comparison, ...]
    failings: tuple[tuple[str, str], ...]
    """Conditions that did not hold, and why."""

    @property
    def passes(self) -> bool:
        """Whether all conditions held and all answers agree."""
        return not self.failings and all(one.agrees for one in self.comparisons)


def judge(run: QualityRun, *, is_exact: bool) -> Verdict:
    """Every condition against the first."""
    first = run.conditions[0]
    comparisons = []
    for other in run.conditions[1:]:
        rows = [(one.id, one.replies[first], one.replies[other]) for one in run.asked]
        comparisons.append(_compared((str(first), str(other)), rows, is_exact=is_exact))
    failings = tuple((str(one), why) for one in run.conditions for why in failing(run, one))
    return Verdict(comparisons=tuple(comparisons), failings=failings)


def compare_runs(first: QualityRun, second: QualityRun, names: tuple[str, str], *, is_exact: bool) -> Comparison:
    """The first condition of one run against the first of another, of the same set.

    Raises:
        SetupError: they asked different questions.
    """
    here, there = ({one.id: one for one in run.asked} for run in (first, second))
    strange = [name for name in {**here, **there} if name not in here or name not in there]
    strange += [name for name, one in here.items() if name in there and there[name].digest != one.digest]
    if strange or not here:
        raise SetupError(
            f"the two runs asked different questions, as {strange[0] if strange else 'none at all'}",
            "run both with the same --seed, --salt, --tokenizer and set",
        )
    one, other = first.conditions[0], second.conditions[0]
    rows = [(name, asked.replies[one], there[name].replies[other]) for name, asked in here.items()]
    return _compared((f"{names[0]}: {one}", f"{names[1]}: {other}"), rows, is_exact=is_exact)


def accuracy(asked: Iterable[Asked], condition: Condition) -> Accuracy:
    """Of these questions."""
    outcomes = [one.replies[condition].is_right for one in asked]
    return Accuracy(questions=len(outcomes), right=sum(outcomes))


def grouped(asked: Iterable[Asked], key: Callable[[Asked], Key]) -> dict[Key, list[Asked]]:
    """By what `key` says, in the order in which it first says so."""
    groups: dict[Key, list[Asked]] = {}
    for one in asked:
        groups.setdefault(key(one), []).append(one)
    return groups


def _compared(names: tuple[str, str], rows: Sequence[tuple[str, Reply, Reply]], *, is_exact: bool) -> Comparison:
    answered = [row for row in rows if not row[1].error and not row[2].error]
    by_tokens = all(one.token_ids and other.token_ids for _, one, other in answered)
    splits = [split for row in answered if (split := _split(*row, by_tokens=by_tokens)) is not None]
    pairs = pairs_of((one.is_right, other.is_right) for _, one, other in answered)
    low, high = difference_interval(pairs)
    return Comparison(
        first=names[0],
        second=names[1],
        is_exact=is_exact,
        by_tokens=by_tokens,
        unanswered=tuple(name for name, one, other in rows if one.error or other.error),
        equal=len(answered) - len(splits),
        splits=tuple(splits),
        pairs=pairs,
        low=low,
        high=high,
        chance=chance(pairs),
    )


def _split(name: str, first: Reply, second: Reply, *, by_tokens: bool) -> Split | None:
    here: Sequence[object] = first.token_ids if by_tokens else first.text
    there: Sequence[object] = second.token_ids if by_tokens else second.text
    place = next((place for place, (one, other) in enumerate(zip_longest(here, there)) if one != other), None)
    return None if place is None else Split(id=name, place=place, first=first, second=second)
