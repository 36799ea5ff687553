"""How the model room words its errors: the problem, then the remedy, as everywhere in Longreach.

What lives here: the constructors of `ModelStoreError` in this room. What must not: catching anything.
"""

from __future__ import annotations

from cluster.core.errors import ModelStoreError, SourceAwayError


def store_error(problem: str, remedy: str) -> ModelStoreError:
    """A `ModelStoreError` that says what is wrong and what to do about it."""
    return ModelStoreError(f"{problem}\n  remedy: {remedy}")


def source_away(problem: str, remedy: str) -> SourceAwayError:
    """The same for what may be over without anybody's doing: a network that is down, a source that is busy."""
    return SourceAwayError(f"{problem}\n  remedy: {remedy}")
