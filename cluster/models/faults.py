"""How the model room words its errors: the problem, then the remedy, as everywhere in Longreach.

What lives here: the one constructor of `ModelStoreError` in this room. What must not: catching anything.
"""

from __future__ import annotations

from cluster.core.errors import ModelStoreError


def store_error(problem: str, remedy: str) -> ModelStoreError:
    """A `ModelStoreError` that says what is wrong and what to do about it."""
    return ModelStoreError(f"{problem}\n  remedy: {remedy}")
