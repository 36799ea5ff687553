"""A quality run as rows of text, for the terminal and the page.

What must not live here: judging, figures for programs (figures.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from loadtest.quality.answered import Asked, Condition, QualityRun
from loadtest.quality.held import cached_ratio
from loadtest.quality.verdict import Accuracy, Comparison, Split, Verdict, accuracy, grouped
from loadtest.report.table import NONE

CONDITION_HEADS = (
    "condition",
    "pools",
    "replicas",
    "questions",
    "right",
    "accuracy",
    "95% interval",
    "cached",
    "beside",
    "seconds",
)
COMPARISON_HEADS = (
    "compared with", "condition", "questions", "equal", "only first right", "only second right",
    "difference", "95% interval", "McNemar p", "verdict",
)  # fmt: skip
SPLIT_SHOWN = 60
"""Characters of an answer."""
TOKENS_SHOWN = 3
"""On either side of the first that differs."""


def condition_rows(run: QualityRun) -> list[tuple[str, ...]]:
    """Under `CONDITION_HEADS`."""
    rows: list[tuple[str, ...]] = []
    for condition in run.conditions:
        replies = [*run.replies(condition).values()]
        answered = [one for one in replies if not one.error]
        found = accuracy(run.asked, condition)
        rows.append(
            (
                str(condition),
                ", ".join(sorted({one.pool or NONE for one in answered})) or NONE,
                f"{len({one.replica for one in answered})}",
                f"{found.questions:,}",
                f"{found.right:,}",
                *_accuracy(found),
                f"{cached_ratio(answered):.1%}",
                f"{sum(one.beside for one in answered) / max(len(answered), 1):.1f}",
                f"{sum(one.seconds for one in answered):,.0f}",
            )
        )
    return rows


def accuracy_rows(run: QualityRun) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads, and a row for each kind and language: right answers under the first condition, by length."""
    condition = run.conditions[0]
    lengths = sorted({one.prompt_tokens for one in run.asked})
    rows = []
    for (kind, language), asked in grouped(run.asked, _kind).items():
        by_length = grouped(asked, lambda one: one.prompt_tokens)
        cells = [_share(by_length.get(length, ()), condition) for length in lengths]
        rows.append((kind, language, *cells, *_accuracy(accuracy(asked, condition))))
    every = [_share([one for one in run.asked if one.prompt_tokens == length], condition) for length in lengths]
    rows.append(("all", "", *every, *_accuracy(accuracy(run.asked, condition))))
    return ("kind", "language", *(f"{length:,}" for length in lengths), "all", "95% interval"), rows


def depth_rows(run: QualityRun) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads, and a row for each depth: of questions that have one, right ones under the first condition by length."""
    condition = run.conditions[0]
    lengths, depths, asked = with_depth(run)
    rows = []
    for depth in depths:
        here = [one for one in asked if one.depth == depth]
        cells = [_share([one for one in here if one.prompt_tokens == length], condition) for length in lengths]
        rows.append((f"{depth:.0%}", *cells, *_accuracy(accuracy(here, condition))))
    return ("depth", *(f"{length:,}" for length in lengths), "all", "95% interval"), rows


def with_depth(run: QualityRun) -> tuple[list[int], list[float], list[Asked]]:
    """Lengths, depths and questions that have a depth."""
    asked = [one for one in run.asked if one.depth is not None]
    lengths = sorted({one.prompt_tokens for one in asked})
    return lengths, sorted({one.depth for one in asked if one.depth is not None}), asked


def comparison_row(found: Comparison) -> tuple[str, ...]:
    """Under `COMPARISON_HEADS`."""
    count = found.pairs.count
    interval = NONE if isnan(found.low) else f"{found.low:+.1%} to {found.high:+.1%}"
    agrees = "equal" if found.is_exact else "agrees"
    verdict = f"{len(found.unanswered)} unanswered" if found.unanswered else agrees if found.agrees else "DIFFERS"
    return (
        found.first,
        found.second,
        f"{count:,}",
        f"{found.equal:,} ({found.equal / count:.1%})" if count else NONE,
        f"{found.pairs.only_first:,}",
        f"{found.pairs.only_second:,}",
        f"{found.pairs.difference:+.1%}" if count else NONE,
        interval,
        f"{found.chance:.3g}",
        verdict,
    )


def sentences(found: Verdict) -> list[str]:
    """What a reader has to know beside the tables."""
    told = [f"{condition}: the condition did not hold: {why}" for condition, why in found.failings]
    for one in found.comparisons:
        told += comparison_sentences(one)
    return told


def comparison_sentences(found: Comparison) -> list[str]:
    """What differs first, and what has no answer."""
    told = []
    name = f"{found.second} against {found.first}"
    if found.unanswered:
        shown = ", ".join(found.unanswered[:5])
        told.append(f"{name}: {len(found.unanswered)} questions have no answer to compare, as {shown}")
    if found.splits and not found.by_tokens:
        told.append(f"{name}: the server told no token ids; texts were compared")
    if found.splits and found.is_exact:
        told.append(f"{name}: {len(found.splits)} answers differ; the first: {split_sentence(found.splits[0], found)}")
    return told


def split_sentence(split: Split, found: Comparison) -> str:
    """Where two answers part."""
    first, second = (_shown(one.text) for one in (split.first, split.second))
    what = "character"
    if found.by_tokens:
        what = "token"
        begin, end = max(split.place - TOKENS_SHOWN, 0), split.place + TOKENS_SHOWN + 1
        first += f" (tokens {list(split.first.token_ids[begin:end])} from {begin})"
        second += f" (tokens {list(split.second.token_ids[begin:end])} from {begin})"
    return f"{split.id}, from {what} {split.place} on: {first} and {second}"


def _kind(one: Asked) -> tuple[str, str]:
    return str(one.kind), str(one.language)


def _accuracy(found: Accuracy) -> tuple[str, str]:
    low, high = found.interval
    return f"{found.ratio:.1%}", f"{low:.1%} to {high:.1%}"


def _share(asked: Sequence[Asked], condition: Condition) -> str:
    if not asked:
        return NONE
    found = accuracy(asked, condition)
    return f"{found.right}/{found.questions}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= SPLIT_SHOWN else text[:SPLIT_SHOWN] + "…")
