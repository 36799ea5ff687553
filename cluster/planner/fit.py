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

NAMES = ("base_s", "weights_s", "token_s", "attention_s", "context_token_s", "sequence_s", "request_s", "overhead_s")
SINGULAR = 1e-12


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
    decoded: int
    """Tokens decoded, the steps' sum."""
    begun: int
    """Requests whose prompts are computed."""
    ways: int
    """There and back between client and engine, one after the other."""
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

    A step costs the dearer of weights and arithmetic, so the problem is linear once it is known which. That is a number
    of tokens from which it is arithmetic; every one that divides the observed steps otherwise is tried.

    Raises:
        ValueError: nothing was observed.
    """
    if not observations:
        raise ValueError("no observations")
    sizes = sorted({tokens for one in observations for _, tokens in one.steps})
    solutions = [_solve_positive([_row(one, compute_from) for one in observations]) for compute_from in (*sizes, inf)]
    best = min(solutions, key=lambda solution: sum(_error(one, solution) ** 2 for one in observations))
    found = dict(zip(NAMES, best, strict=True))
    overhead_s = found.pop("overhead_s")
    return Fit(
        cost=StepCost(**found),
        overhead_s=overhead_s,
        errors=tuple(_error(one, best) for one in observations),
    )


def _row(one: Observation, compute_from: float) -> list[float]:
    """What each coefficient counts in an observation, over its time."""
    row = [
        sum(count for count, _ in one.steps),
        sum(count for count, tokens in one.steps if tokens < compute_from),
        sum(count * tokens for count, tokens in one.steps if tokens >= compute_from),
        one.attended_tokens,
        one.context_tokens,
        one.decoded,
        one.begun,
        one.ways,
    ]
    return [value / one.seconds for value in row]


def _error(one: Observation, solution: Sequence[float]) -> float:
    base_s, weights_s, token_s, attention_s, context_s, sequence_s, request_s, overhead_s = solution
    explained_s = (
        sum(count * (base_s + max(weights_s, tokens * token_s)) for count, tokens in one.steps)
        + one.attended_tokens * attention_s
        + one.context_tokens * context_s
        + one.decoded * sequence_s
        + one.begun * request_s
        + one.ways * overhead_s
    )
    return explained_s / one.seconds - 1


def _solve_positive(rows: Sequence[Sequence[float]]) -> list[float]:
    """Non-negative least squares against ones: with eight unknowns, every set of those above zero is simply tried.

    The best solution without the bounds on some set of unknowns that happens to keep them is the best with them
    (Lawson and Hanson 1974 search these sets, too, only not all).
    """
    size = len(NAMES)
    scales = [sum(row[column] ** 2 for row in rows) ** 0.5 or 1.0 for column in range(size)]
    scaled = [[value / scale for value, scale in zip(row, scales, strict=True)] for row in rows]
    products = [[sum(row[a] * row[b] for row in scaled) for b in range(size)] for a in range(size)]
    sums = [sum(row[column] for row in scaled) for column in range(size)]
    best = (0.0, [0.0] * size)
    for count in range(1, size + 1):
        for chosen in combinations(range(size), count):
            values = _solve([[products[a][b] for b in chosen] + [sums[a]] for a in chosen])
            if values is None or min(values) < 0:
                continue
            # The squares' sum less its value at zero; at a least-squares solution that is minus values times sums.
            gain = -sum(value * sums[place] for value, place in zip(values, chosen, strict=True))
            solution = [0.0] * size
            for place, value in zip(chosen, values, strict=True):
                solution[place] = value / scales[place]
            best = min(best, (gain, solution))
    return best[1]


def _solve(matrix: list[list[float]]) -> list[float] | None:
    """Of the equations, each with its right side last, by Gauss and Jordan; None where they are not independent."""
    size = len(matrix)
    for column in range(size):
        pivot = max(range(column, size), key=lambda line: abs(matrix[line][column]))
        if abs(matrix[pivot][column]) < SINGULAR:
            return None
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        for line in range(size):
            if line != column:
                factor = matrix[line][column] / matrix[column][column]
                matrix[line] = [a - factor * b for a, b in zip(matrix[line], matrix[column], strict=True)]
    return [matrix[place][size] / matrix[place][place] for place in range(size)]
