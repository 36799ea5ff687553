"""What a chat template and a tokenizer add to the texts of a prompt, in tokens.

What must not live here: templates themselves (services/gateway/templates.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.core.prompt import Conversation
from services.gateway.tokenizer import Counting

TRIAL_TEXTS = ("time", "people")
"""Two, to see whether what a template adds depends on the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapping:
    """Tokens that are not of any text."""

    chat_tokens: int = 0
    """Around one user's message, up to where the model goes on; a default system message included."""
    system_tokens: int = 0
    """Around a system message and a user's message together."""
    turn_tokens: int = 0
    """More for each further turn: around the answer before it and around its message."""
    completion_tokens: int = 0
    """In front of a completion's text."""

    def around(self, *, has_system: bool, turns: int = 1) -> int:
        """Around a conversation of so many turns."""
        return (self.system_tokens if has_system else self.chat_tokens) + (turns - 1) * self.turn_tokens


def measured_wrapping(counting: Counting) -> Wrapping | None:
    """What a model adds, by rendering trials; None where it has no template, or adds now this and now that."""
    chat = _around(counting, ("user",))
    system = _around(counting, ("system", "user"))
    turns = _around(counting, ("user", "assistant", "user"))
    more = _around(counting, ("user", "assistant", "user", "assistant", "user"))
    if chat is None or turns is None or more is None or more - turns != turns - chat:
        return None
    return Wrapping(
        chat_tokens=chat,
        # A template without a system role puts the text before the user's: no scenario needs one of its own then.
        system_tokens=chat if system is None else system,
        turn_tokens=turns - chat,
        completion_tokens=counting.exact("", add_special_tokens=True),
    )


def _around(counting: Counting, roles: Sequence[str]) -> int | None:
    found = {_added(counting, roles, text) for text in TRIAL_TEXTS}
    return found.pop() if len(found) == 1 else None


def _added(counting: Counting, roles: Sequence[str], text: str) -> int | None:
    messages = tuple({"role": role, "content": text} for role in roles)
    texts = counting.rendered(Conversation(messages=messages, template_arguments={"add_generation_prompt": True}))
    if texts is None:
        return None
    every = counting.exact(texts.texts[0], add_special_tokens=texts.add_special_tokens)
    return every - len(roles) * counting.exact(text, add_special_tokens=False)
