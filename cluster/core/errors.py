"""The exceptions of Longreach, in one tree.

    LongreachError
    ├── ConfigError            the configuration file has mistakes
    ├── TraceError             a trace file has a mistake
    ├── SetupError             this machine cannot do what was asked; carries the remedy
    ├── ModelStoreError        a model cannot be had, or what arrived is not what was promised
    │   └── SourceAwayError        its source does not answer now; later it may
    └── EngineStalledError          the engine's steps no longer advance

Expected outcomes of a request (too long, no replica) are not exceptions: see cluster/core/routing.py.
"""

from __future__ import annotations

from dataclasses import dataclass


class LongreachError(Exception):
    """The root: everything Longreach raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigMistake:
    """One mistake in a configuration file; `line` is 1-based, 0 when there is no line to name."""

    line: int
    field: str
    problem: str


class ConfigError(LongreachError):
    """The configuration file cannot be used; `mistakes` holds all of them."""

    def __init__(self, origin: str, mistakes: tuple[ConfigMistake, ...]) -> None:
        self.origin = origin
        self.mistakes = mistakes
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """One line a mistake: `FILE:LINE: FIELD: PROBLEM`."""
        return [
            f"{self.origin}:{mistake.line}: {mistake.field + ': ' if mistake.field else ''}{mistake.problem}"
            for mistake in self.mistakes
        ]


class TraceError(LongreachError):
    """A trace file cannot be used: `ORIGIN:LINE: FIELD: PROBLEM`, and what would be right."""

    def __init__(self, origin: str, *, line: int, field: str, problem: str, remedy: str) -> None:
        self.line = line
        self.field = field
        super().__init__(f"{origin}:{line}: {field + ': ' if field else ''}{problem}\n  remedy: {remedy}")


class SetupError(LongreachError):
    """This machine cannot do what was asked; `remedy` says what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}\n  remedy: {remedy}")


class ModelStoreError(LongreachError):
    """A model cannot be had, or what arrived is not what was promised."""


class SourceAwayError(ModelStoreError):
    """A model's source does not answer now: the same pull may succeed later, without anybody changing anything."""


class EngineStalledError(LongreachError):
    """The engine's steps no longer advance."""
