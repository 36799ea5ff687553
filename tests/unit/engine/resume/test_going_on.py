"""Tokens that are generated once more come in the outputs in which they came before, however the engine gives them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.engine.resume.forcing import ARGUMENT
from cluster.engine.resume.going_on import Made, replayed

OUTPUTS = st.lists(st.integers(1, 4), max_size=6)
"""How many tokens each has."""
LAST = 4
"""At most, of the engine's output that reaches the end."""


class Detokenizer:
    """Gives each token its own text."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.told = 0

    def update(self, ids: list[int], is_stop_token: bool) -> None:
        del is_stop_token
        self.ids += ids

    def num_output_tokens(self) -> int:
        return len(self.ids)

    def get_next_output_text(self, finished: bool, delta: bool) -> str:
        del finished, delta
        new, self.told = self.ids[self.told :], len(self.ids)
        return text_of(new)


class Params(SimpleNamespace):
    def clone(self) -> Params:
        return Params(**vars(self))


def text_of(ids: list[int]) -> str:
    return "".join(f"<{token}>" for token in ids)


def output_of(ids: list[int], *, is_last: bool) -> Any:
    choice = SimpleNamespace(
        token_ids=ids, text=text_of(ids), logprobs=[{token: -1.0} for token in ids],
        finish_reason="length" if is_last else None, stop_reason=None,
    )  # fmt: skip
    return SimpleNamespace(outputs=[choice], finished=is_last)


def parts(sizes: list[int], begin: int = 0) -> list[list[int]]:
    found = []
    for size in sizes:
        found.append(list(range(begin, begin + size)))
        begin += size
    return found


@given(before=OUTPUTS, engines=OUTPUTS, rest=st.integers(0, LAST))
async def test_outputs_come_as_they_came(before: list[int], engines: list[int], rest: int) -> None:
    total = max(sum(before), sum(engines)) + rest
    if total > sum(engines):
        engines = [*engines, total - sum(engines)]
    forced: list[Any] = []

    async def generate(prompt: Any, params: Any) -> AsyncGenerator[Any, None]:
        forced.append((prompt, params.extra_args))
        for ids in parts(engines):
            yield output_of(ids, is_last=ids[-1] == total - 1)

    groups = parts(before)
    params = Params(extra_args={"own": 1})
    found = [one async for one in replayed(generate, "prompt", params, Made(groups=groups), Detokenizer)]
    choices = [one.outputs[0] for one in found]
    assert forced == [("prompt", {"own": 1, ARGUMENT: list(range(sum(before)))})]
    assert params.extra_args == {"own": 1}
    assert [choice.token_ids for choice in choices[: len(groups)]] == groups
    assert [token for choice in choices for token in choice.token_ids] == list(range(total))
    for choice in choices:
        assert choice.text == text_of(choice.token_ids)
        assert choice.logprobs == [{token: -1.0} for token in choice.token_ids]
    assert [one.finished for one in found] == [False] * (len(found) - 1) + [True] * bool(found)
    assert [choice.finish_reason for choice in choices] == [None] * (len(found) - 1) + ["length"] * bool(found)
