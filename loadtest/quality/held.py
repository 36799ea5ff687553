"""Whether what was asked under a condition really was: a comparison says nothing where it was not.

What must not live here: comparing (verdict.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from loadtest.quality.answered import Condition, QualityRun, Reply

COLD_RATIO_MAX = 0.05
"""Of prompt tokens that may be cached where nothing should be: the beginning of the template is common to all."""
WARM_RATIO_MIN = 0.5
"""Of prompt tokens that have to be cached: all but the last, unfinished block of each prompt can be."""
BESIDE_RATIO_MIN = 0.9
"""Of answers that the load has to have been beside: between two of its requests there is a moment."""


def failing(run: QualityRun, condition: Condition) -> tuple[str, ...]:
    """Why the condition did not hold, each a sentence; empty: it did."""
    replies = [one for one in run.replies(condition).values() if not one.error]
    if not replies:
        return ("nothing was answered",)
    match condition:
        case Condition.UNCACHED:
            return _uncached(replies)
        case Condition.CACHED:
            return _cached(replies)
        case Condition.SINGLE:
            return _single(replies, [*run.replies(run.conditions[0]).values()])
        case Condition.LOADED:
            return _loaded(replies)


def cached_ratio(replies: Sequence[Reply]) -> float:
    """Of prompt tokens, those that were cached; 0 where the server tells none."""
    prompt = sum(one.prompt_tokens for one in replies)
    return sum(one.cached_tokens for one in replies) / prompt if prompt else 0.0


def _uncached(replies: Sequence[Reply]) -> tuple[str, ...]:
    ratio = cached_ratio(replies)
    if ratio <= COLD_RATIO_MAX:
        return ()
    return (f"{ratio:.1%} of the prompts' tokens were cached, over {COLD_RATIO_MAX:.0%}: give another --salt, or none",)


def _cached(replies: Sequence[Reply]) -> tuple[str, ...]:
    ratio = cached_ratio(replies)
    if ratio >= WARM_RATIO_MIN:
        return ()
    why = (
        f"{ratio:.1%} of the prompts' tokens were cached, under {WARM_RATIO_MIN:.0%}: the prefix cache is off, too "
        "small, or the server does not tell"
    )
    return (why,)


def _single(replies: Sequence[Reply], baseline: Sequence[Reply]) -> tuple[str, ...]:
    found = []
    if len(replicas := {one.replica for one in replies}) > 1:
        found.append(f"{len(replicas)} replicas answered, not one")
    if len(pools := {one.pool for one in baseline if one.pool}) < 2:  # noqa: PLR2004 - pools are several
        found.append(
            f"what it is compared with came from {len(pools)} pools: ask lengths of which several pools have some"
        )
    return tuple(found)


def _loaded(replies: Sequence[Reply]) -> tuple[str, ...]:
    alone = sum(not one.beside for one in replies)
    if len(replies) - alone >= BESIDE_RATIO_MIN * len(replies):
        return ()
    why = (
        f"{alone} of {len(replies)} answers had no request of the load beside them on their replica: raise "
        "--load-concurrency, or choose a load that goes to the same pools"
    )
    return (why,)
