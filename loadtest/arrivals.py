"""When sessions begin: endless, rising times in seconds since the run's begin, from a seed.

Every shape is a unit process, one arrival a second, whose time is bent: by 1/rate, around pauses, along a ramp. What
must not live here: clocks, what arrives.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Spacing(StrEnum):
    """How a unit process comes."""

    POISSON = "poisson"
    """Independently of each other, as from many users: gaps are exponential with mean 1."""
    CONSTANT = "constant"
    """One a second, the first at 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """The same rate all the time."""

    rate_per_s: float

    def __post_init__(self) -> None:
        """Refuse what has no arrivals.

        Raises:
            ValueError: the rate is not over 0.
        """
        _over_zero(rate_per_s=self.rate_per_s)

    def at(self, unit_s: float) -> float:
        """When the unit process's time `unit_s` is."""
        return unit_s / self.rate_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """A steady rate for `on_s`, nothing for `off_s`, and again."""

    rate_per_s: float
    """While it is on; over all time it is this times on / (on + off)."""
    on_s: float
    off_s: float

    def __post_init__(self) -> None:
        """Refuse what has no arrivals.

        Raises:
            ValueError: the rate or `on_s` is not over 0, or `off_s` below it.
        """
        _over_zero(rate_per_s=self.rate_per_s, on_s=self.on_s)
        if not 0 <= self.off_s < math.inf:
            raise ValueError(f"off_s is {self.off_s:g}: 0 or more")

    def at(self, unit_s: float) -> float:
        """When the unit process's time `unit_s` is."""
        busy_s = unit_s / self.rate_per_s
        return busy_s + math.floor(busy_s / self.on_s) * self.off_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """A rate that moves evenly from one to another, and stays there."""

    first_per_s: float
    last_per_s: float
    over_s: float

    def __post_init__(self) -> None:
        """Refuse what has no arrivals.

        Raises:
            ValueError: the last rate or `over_s` is not over 0, or the first rate below it.
        """
        _over_zero(last_per_s=self.last_per_s, over_s=self.over_s)
        if not 0 <= self.first_per_s < math.inf:
            raise ValueError(f"first_per_s is {self.first_per_s:g}: 0 or more")

    def at(self, unit_s: float) -> float:
        """When the unit process's time `unit_s` is.

        The expected number of arrivals up to t is first·t + (last - first)·t²/(2·over): solved for t, in the form that
        loses no digits where the two rates are nearly equal.
        """
        within = (self.first_per_s + self.last_per_s) / 2 * self.over_s
        if unit_s >= within:
            return self.over_s + (unit_s - within) / self.last_per_s
        slope = (self.last_per_s - self.first_per_s) / self.over_s
        root = math.sqrt(max(0.0, self.first_per_s**2 + 2 * slope * unit_s))
        both = self.first_per_s + root
        return min(2 * unit_s / both, self.over_s) if both else 0.0


Course = Steady | Bursts | Ramp


def arrivals(course: Course, *, seed: int, spacing: Spacing = Spacing.POISSON) -> Iterator[float]:
    """The times, without end.

    Args:
        course: the rate over time.
        seed: of the draws; the same seed, the same times.
        spacing: how they come at this rate.
    """
    at: Callable[[float], float] = course.at
    return map(at, _unit(spacing, seed))


def replayed(times_s: Iterable[float], *, speed: float = 1.0) -> Iterator[float]:
    """A trace's times, counted from its first, `speed` times as fast; as many as it has.

    Raises:
        ValueError: the speed is not over 0; or, when it is met, a time is before the one that precedes it.
    """
    _over_zero(speed=speed)
    return _replay(times_s, speed)


def parse_course(text: str, rate_per_s: float | None) -> tuple[Course, Spacing]:
    """Read `poisson`, `constant`, `bursts=ON,OFF` or `ramp=FIRST,LAST,OVER`.

    Args:
        text: as a user types it; seconds, and requests a second.
        rate_per_s: the rate where the text does not say it; None: 1.

    Raises:
        ValueError: it is none of these, or a number is out of range.
    """
    name, _, rest = text.partition("=")
    rate = 1.0 if rate_per_s is None else rate_per_s
    numbers = [_number(part) for part in rest.split(",")] if rest else []
    match name, numbers:
        case (("poisson" | "constant"), []):
            return Steady(rate_per_s=rate), Spacing(name)
        case "bursts", [on_s, off_s]:
            return Bursts(rate_per_s=rate, on_s=on_s, off_s=off_s), Spacing.POISSON
        case "ramp", [first, last, over_s]:
            if rate_per_s is not None:
                raise ValueError("a ramp has its own rates: leave --rate out")
            return Ramp(first_per_s=first, last_per_s=last, over_s=over_s), Spacing.POISSON
    raise ValueError(f"{text!r} is none of: poisson, constant, bursts=ON_S,OFF_S, ramp=FIRST,LAST,OVER_S")


def _unit(spacing: Spacing, seed: int) -> Iterator[float]:
    at_s = 0.0
    if spacing is Spacing.CONSTANT:
        while True:
            yield at_s
            at_s += 1.0
    rng = random.Random(seed)  # noqa: S311 - arrivals
    while True:
        at_s += rng.expovariate(1.0)
        yield at_s


def _replay(times_s: Iterable[float], speed: float) -> Iterator[float]:
    first_s = before_s = None
    for number, time_s in enumerate(times_s):
        if first_s is None:
            first_s = before_s = time_s
        assert before_s is not None
        if not time_s >= before_s:
            raise ValueError(f"time {number} of the trace is {time_s:g} s, after {before_s:g} s: sort it by time")
        before_s = time_s
        yield (time_s - first_s) / speed


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _over_zero(**named: float) -> None:
    for name, value in named.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value:g}: over 0")
