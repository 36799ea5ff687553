"""The output budget of one request, held against the context limit once its prompt is tokenized.

What must not live here: answers (guard.py), vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass


class ContextRefusedError(Exception):
    """Prompt and output do not fit this replica's context; raised where the engine would have clamped the output."""


@dataclass(slots=True, kw_only=True)
class Budget:
    """One request's output budget, and what became of it once the prompt was tokenized."""

    output_tokens: int
    is_beam_search: bool = False
    """vLLM's beam search calls the engine once a step, its prompt growing: only the first call tells the prompt."""
    checked: bool = False
    refused_prompt_tokens: int | None = None
    context_tokens: int = 0

    def check(self, prompt_tokens: int, context_tokens: int) -> None:
        """Hold the budget against the context limit.

        Raises:
            ContextRefusedError: prompt plus output are over it; vLLM would silently shorten the output.
        """
        if self.is_beam_search and self.checked:
            return
        self.context_tokens = context_tokens
        if prompt_tokens + self.output_tokens > context_tokens:
            self.refused_prompt_tokens = prompt_tokens
            raise ContextRefusedError
        self.checked = True
