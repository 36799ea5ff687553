"""Which events of a resumed stream its client has, so that they are not sent again.

Events come in the order in which tokens are made, so what came before the last delivered token is known, and so are the
events made of that one. What must not live here: making tokens again.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.core.resume import Delivered


class Skip:
    """Follows one stream from its begin."""

    def __init__(self, delivered: Delivered) -> None:
        self._left: dict[int, int] = {}
        for group in delivered.groups:
            self._left[group.choice] = self._left.get(group.choice, 0) + len(group.ids)
        self._last = delivered.groups[-1].choice if delivered.groups else None
        self._is_past = not delivered.groups
        """Whether the last delivered group has been made again."""
        # The first event comes with its group's tokens.
        self._events = max(delivered.events - bool(delivered.groups), 0)

    def keeps_back(self, made: Iterable[tuple[int, int]]) -> bool:
        """Whether the client has the next event.

        Args:
            made: choice and number of the tokens that were generated since the event before.
        """
        made = [(choice, tokens) for choice, tokens in made if tokens]
        if not made:
            if not self._is_past or any(self._left.values()):
                return True
            if self._events:
                self._events -= 1
                return True
            return False
        is_new = False
        for choice, tokens in made:
            left = self._left.get(choice, 0)
            is_new |= not left
            self._left[choice] = max(left - tokens, 0)
            if choice == self._last and left and not self._left[choice]:
                self._is_past = True
        if is_new:
            self._events = 0
        return not is_new
