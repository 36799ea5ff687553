"""How far a run has come, for who watches it.

What must not live here: drawing.
"""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Is told of every step."""

    def begins(self, what: str, steps: int) -> None:
        """A part of so many steps begins."""
        ...

    def step(self, what: str) -> None:
        """One step begins."""
        ...

    def ends(self) -> None:
        """The part is over."""
        ...
