"""Coefficients of a step's cost from measured times: least squares of relative errors, none below zero.

Pure: measuring is measure.py's, files are calibration.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf
from statistics import median

from cluster.core.capacity.step import StepCost

NAMES = ("base_s", "weights_s", "token_s", "attention_s", "context_token_s", "overhead_s")
ROUNDS_MAX = 30
"""Of sorting steps into those that weights bound and those that arithmetic bounds; two or three are usual."""
SINGULAR = 1e-12
COMPUTE_TOKENS = 64
"""From here on a step is first taken to be bound by arithmetic: between what processors (a few) and GPUs (hundreds)
need; the rounds correct it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A measured time, and what was computed in it."""

    name: str
    steps: tuple[tuple[float, int], ...]
    """How many, each of how many tokens."""
    attended_tokens: int
    """Pairs of attention of the prompt tokens among them (`prefill_pairs`)."""
    context_tokens: float
    """Context that was read for tokens decoded, the steps' sum."""
    requests: int
    """Begun within that time: each has its way there and back."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What explains the times best."""

    cost: StepCost
    overhead_s: float
    """Of a request, beside the engine's steps."""
    errors: tuple[float, ...]
    """Explained over measured, less 1, in the order of the observations."""

    @property
    def median_error_ratio(self) -> float:
        """The usual error, without its sign."""
        return median(abs(error) for error in self.errors)

    @property
    def worst_error_ratio(self) -> float:
        """The largest, without its sign."""
        return max(abs(error) for error in self.errors)


def fit_cost(observations: Sequence[Observation]) -> Fit:
    """The cost that explains the observations with the least sum of squared relative errors.

    A step costs the dearer of weights and arithmetic, so the problem is linear once it is known which; that is guessed,
    solved, and guessed again from the solution.

    Raises:
        ValueError: nothing was observed.
    """
    if not observations:
        raise ValueError("no observations")
    compute_from: float = COMPUTE_TOKENS
    seen: set[float] = set()
    best: tuple[float, list[float]] = (inf, [0.0] * len(NAMES))
    for _ in range(ROUNDS_MAX):
        solution = _solve_positive([_row(one, compute_from) for one in observations])
        error = sum(_error(one, solution) ** 2 for one in observations)
        best = min(best, (error, solution))
        weights_s, token_s = solution[1], solution[2]
        compute_from = weights_s / token_s if token_s > 0 else inf
        if compute_from in seen:
            break
        seen.add(compute_from)
    found = dict(zip(NAMES, best[1], strict=True))
    overhead_s = found.pop("overhead_s")
    return Fit(
        cost=StepCost(**found),
        overhead_s=overhead_s,
        errors=tuple(_error(one, best[1]) for one in observations),
    )


def _row(one: Observation, compute_from: float) -> list[float]:
    """What each coefficient counts in an observation, over its time."""
    row = [
        sum(count for count, _ in one.steps),
        sum(count for count, tokens in one.steps if tokens < compute_from),
        sum(count * tokens for count, tokens in one.steps if tokens >= compute_from),
        one.attended_tokens,
        one.context_tokens,
        one.requests,
    ]
    return [value / one.seconds for value in row]


def _error(one: Observation, solution: Sequence[float]) -> float:
    base_s, weights_s, token_s, attention_s, context_s, overhead_s = solution
    explained_s = (
        sum(count * (base_s + max(weights_s, tokens * token_s)) for count, tokens in one.steps)
        + one.attended_tokens * attention_s
        + one.context_tokens * context_s
        + one.requests * overhead_s
    )
    return explained_s / one.seconds - 1


def _solve_positive(rows: Sequence[Sequence[float]]) -> list[float]:
    """Non-negative least squares against ones: with six unknowns, every set of those above zero is simply tried.

    The best solution without the bounds on some set of unknowns that happens to keep them is the best with them
    (Lawson and Hanson 1974 search these sets, too, only not all).
    """
    unknowns = range(len(NAMES))
    best = (inf, [0.0] * len(NAMES))
    for count in range(1, len(NAMES) + 1):
        for chosen in combinations(unknowns, count):
            values = _solve([[row[place] for place in chosen] for row in rows])
            if values is None or min(values) < 0:
                continue
            solution = [0.0] * len(NAMES)
            for place, value in zip(chosen, values, strict=True):
                solution[place] = value
            error = sum((sum(a * b for a, b in zip(row, solution, strict=True)) - 1) ** 2 for row in rows)
            best = min(best, (error, solution))
    return best[1]


def _solve(rows: Sequence[Sequence[float]]) -> list[float] | None:
    """Least squares against ones by the normal equations, columns scaled; None where unknowns cannot be told apart."""
    size = len(rows[0])
    scales = [sum(row[column] ** 2 for row in rows) ** 0.5 for column in range(size)]
    if min(scales) <= 0:
        return None
    scaled = [[value / scale for value, scale in zip(row, scales, strict=True)] for row in rows]
    matrix = [
        [sum(row[first] * row[second] for row in scaled) for second in range(size)]
        + [sum(row[first] for row in scaled)]
        for first in range(size)
    ]
    for column in range(size):
        pivot = max(range(column, size), key=lambda line: abs(matrix[line][column]))
        if abs(matrix[pivot][column]) < SINGULAR:
            return None
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        for line in range(size):
            if line != column:
                factor = matrix[line][column] / matrix[column][column]
                matrix[line] = [a - factor * b for a, b in zip(matrix[line], matrix[column], strict=True)]
    return [matrix[place][size] / matrix[place][place] / scales[place] for place in range(size)]
