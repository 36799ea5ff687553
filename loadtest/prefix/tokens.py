"""A model's own view of a conversation: its template, its tokenizer.

What must not live here: what the tokens are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.core.errors import SetupError
from cluster.core.prompt import Conversation
from services.gateway.tokenizer import Counting, load_counting


class Tokens:
    """Tokenizes as the engine will.

    Args:
        folder: of the model.

    Raises:
        SetupError: it has no tokenizer or no template that works here.
    """

    def __init__(self, folder: Path) -> None:
        counting = load_counting(folder)
        if counting is None or counting.template is None:
            raise SetupError(
                f"{folder} has no tokenizer.json with a chat template that could be read",
                "take another model: longreach bench prefix --model NAME",
            )
        self._counting: Counting = counting

    def rendered(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt's text, up to where the model goes on.

        Raises:
            SetupError: the template refuses the messages.
        """
        prompt = Conversation(messages=tuple(messages), template_arguments={"add_generation_prompt": True})
        texts = self._counting.rendered(prompt)
        if texts is None:
            raise SetupError("the model's chat template refuses a plain conversation", "take another model")
        return texts.texts[0]

    def ids(self, text: str) -> list[int]:
        """The tokens of a rendered text."""
        found: list[int] = self._counting.tokenizer.encode(text, add_special_tokens=False).ids
        return found
