"""The resident chunks' keys, and what became of them since it was last told.

What must not live here: blocks, and why a chunk is resident.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple


class Changes(NamedTuple):
    """What became of the resident chunks; the keys of both are different ones."""

    adds: list[tuple[int, int]]
    """Keys with tokens, parents before children."""
    removes: list[int]
    """Children before parents."""
    is_cleared: bool
    """Whether everything went, before the others."""


@dataclass(slots=True)
class _Pending:
    adds: dict[int, int] = field(default_factory=dict)
    removes: dict[int, None] = field(default_factory=dict)
    is_cleared: bool = False


class ResidentKeys:
    """Keys with tokens, counted by their owners: two tokenizations of one text share its keys."""

    def __init__(self) -> None:
        self._tokens: dict[int, int] = {}
        self._owners: dict[int, int] = {}
        """Of keys that have more than one."""
        self._pending = _Pending()

    @property
    def has_changes(self) -> bool:
        """Whether there is something to take."""
        return self.has_losses or bool(self._pending.adds)

    @property
    def has_losses(self) -> bool:
        """Whether some of it is a loss."""
        return bool(self._pending.removes) or self._pending.is_cleared

    def hold(self, key: int, tokens: int) -> None:
        """One owner more."""
        if key in self._tokens:
            self._owners[key] = self._owners.get(key, 1) + 1
            return
        self._tokens[key] = tokens
        self._pending.removes.pop(key, None)
        self._pending.adds[key] = tokens

    def release(self, key: int) -> None:
        """One owner less of a key that has some."""
        owners = self._owners.get(key, 1) - 1
        if owners > 1:
            self._owners[key] = owners
        elif owners == 1:
            del self._owners[key]
        else:
            del self._tokens[key]
            self._pending.adds.pop(key, None)
            self._pending.removes[key] = None

    def clear(self) -> None:
        """No key has an owner any more."""
        self._tokens.clear()
        self._owners.clear()
        self._pending = _Pending(is_cleared=True)

    def take_changes(self, limit: int) -> Changes:
        """What changed since the last call, at most `limit` entries; what was removed comes first."""
        pending = self._pending
        removes = [pending.removes.popitem()[0] for _ in range(min(limit, len(pending.removes)))]
        keys = list(islice(pending.adds, limit - len(removes)))
        adds = [(key, pending.adds.pop(key)) for key in keys]
        is_cleared, pending.is_cleared = pending.is_cleared, False
        return Changes(adds, removes, is_cleared)

    def drop_changes(self) -> None:
        """Forget what changed: a snapshot will say it."""
        self._pending = _Pending()

    def entries(self) -> tuple[array[int], array[int]]:
        """Every key, as array("Q"), with its tokens, as array("I")."""
        return array("Q", self._tokens), array("I", self._tokens.values())
