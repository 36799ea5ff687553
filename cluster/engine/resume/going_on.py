"""An engine's outputs for one choice of a resumed request: first those that its client has, then new ones.

vLLM's own application sits above and must not see a difference: its parsers, its counts and its events then are as if
nothing had happened, and side_channel.py keeps back what the client has. What must not live here: HTTP, which way.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from cluster.engine.resume.forcing import ARGUMENT

Generate = Callable[[Any, Any], AsyncGenerator[Any, None]]
"""From a prompt and sampling parameters to the engine's outputs."""
STOP, LENGTH = "stop", "length"
"""vLLM's finish reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What the client has of this choice: tokens, in the groups in which they came."""

    groups: Sequence[Sequence[int]]

    @property
    def ids(self) -> list[int]:
        """All of them."""
        return [token for group in self.groups for token in group]


async def appended(
    generate: Generate, prompt: Any, params: Any, made: Made, detokenizer: Any
) -> AsyncGenerator[Any, None]:
    """Emitted tokens become part of the prompt; their outputs are made here, by vLLM's own detokenizer.

    Args:
        generate: asks the engine.
        prompt: vLLM's, with `prompt_token_ids`.
        params: of one choice, streaming deltas.
        made: what there is.
        detokenizer: for this request, nothing decoded yet; it goes on with the new tokens, so that characters and
            stop strings across the cut come out whole.
    """
    ids = made.ids
    prompt_ids = prompt["prompt_token_ids"]
    text = _Text(detokenizer, params)
    ended = _ending(ids, params, text.preview(made.groups))
    if ended is not None:
        for group, is_last in _marked(made.groups):
            yield _output(prompt, text.add(group, is_end=is_last, reason=ended), group, ended if is_last else None)
        return
    rest = params.clone()
    # The detokenizer here looks for stop strings, with the text before the cut.
    rest.stop, rest.detokenize, rest.output_text_buffer_length = [], False, 0
    rest.max_tokens -= len(ids)
    rest.min_tokens = max(rest.min_tokens - len(ids), 0)
    outputs = generate({**prompt, "prompt_token_ids": [*prompt_ids, *ids]}, rest)
    async with contextlib.aclosing(outputs):
        is_first = True
        async for output in outputs:
            if is_first:
                is_first = False
                for group in made.groups:
                    yield _output(prompt, text.add(group), group, None, like=output)
            yield _adapted(output, prompt_ids, text)
            if output.finished:
                return


async def replayed(
    generate: Generate, prompt: Any, params: Any, made: Made, detokenizer: Any
) -> AsyncGenerator[Any, None]:
    """The engine makes them again, under force, and goes on by itself.

    Outputs come as they came before the cut, since events are made of outputs: how many tokens one has is chance.

    Args:
        generate: asks the engine.
        prompt: vLLM's.
        params: of one choice, streaming deltas.
        made: what there is.
        detokenizer: as for `appended`; needed where one output has tokens of two.
    """
    forced = params.clone()
    forced.extra_args = {**(params.extra_args or {}), ARGUMENT: made.ids}
    text = _Text(detokenizer, params)
    groups = deque(made.groups)
    waiting: Any = None
    outputs = generate(prompt, forced)
    async with contextlib.aclosing(outputs):
        async for output in outputs:
            waiting = output if waiting is None else _joined(waiting, output)
            while groups and len(waiting.outputs[0].token_ids) > len(groups[0]):
                group = groups.popleft()
                first, waiting = _split(waiting, len(group), text.add(group))
                yield first
            is_whole = not groups or len(waiting.outputs[0].token_ids) == len(groups[0])
            if is_whole or waiting.finished:
                if groups:
                    text.add(groups.popleft())
                yield waiting
                waiting = None


class _Text:
    """One choice's text, as vLLM's output processor makes it of tokens."""

    def __init__(self, detokenizer: Any, params: Any) -> None:
        self._make = detokenizer
        self._detokenizer = detokenizer()
        self._params = params
        self.stop: str | None = None
        """The stop string that was found."""
        self.text = ""
        """All that was given out."""
        self.kept = 0
        """Of the latest tokens, those up to the stop string's end."""

    def add(self, ids: Sequence[int], *, is_end: bool = False, reason: tuple[str, Any] | None = None) -> str:
        """The next text: what these tokens add, less what is held back."""
        is_token = is_end and reason is not None and reason[0] == STOP and not isinstance(reason[1], str)
        before = self._detokenizer.num_output_tokens()
        self.stop = self._detokenizer.update(list(ids), is_token)
        self.kept = self._detokenizer.num_output_tokens() - before
        found: str = self._detokenizer.get_next_output_text(is_end or self.stop is not None, True)
        self.text += found
        return found

    def preview(self, groups: Sequence[Sequence[int]]) -> _Text:
        """What becomes of these tokens, on a copy."""
        ahead = _Text(self._make, self._params)
        for group in groups:
            ahead.add(group)
            if ahead.stop is not None:
                break
        return ahead


def _ending(ids: Sequence[int], params: Any, text: _Text) -> tuple[str, Any] | None:
    """The finish reason and the stop reason of tokens after which nothing comes; None: more comes.

    As vLLM's scheduler decides it: v1/core/sched/utils.py, check_stop.
    """
    if text.stop is not None:
        return STOP, text.stop
    if len(ids) >= params.min_tokens:
        if not params.ignore_eos and ids[-1] == params.eos_token_id:
            return STOP, None
        if ids[-1] in (params.stop_token_ids or ()):
            return STOP, ids[-1]
    return (LENGTH, None) if len(ids) >= params.max_tokens else None


def _marked(groups: Sequence[Sequence[int]]) -> list[tuple[Sequence[int], bool]]:
    return [(group, number == len(groups)) for number, group in enumerate(groups, 1)]


def _output(
    prompt: Any, text: str, ids: Sequence[int], ended: tuple[str, Any] | None, *, like: Any | None = None
) -> Any:
    from vllm.outputs import CompletionOutput, RequestOutput

    choice = CompletionOutput(
        index=0,
        text=text,
        token_ids=list(ids),
        cumulative_logprob=None,
        logprobs=None,
        finish_reason=None if ended is None else ended[0],
        stop_reason=None if ended is None else ended[1],
    )
    prompt_ids = prompt["prompt_token_ids"]
    return RequestOutput(
        request_id="" if like is None else like.request_id,
        prompt=prompt.get("prompt"),
        prompt_token_ids=prompt_ids,
        prompt_logprobs=None,
        outputs=[choice],
        finished=ended is not None,
        num_cached_tokens=0 if like is None else min(like.num_cached_tokens or 0, len(prompt_ids)),
    )


def _adapted(output: Any, prompt_ids: Sequence[int], text: _Text) -> Any:
    """An output of the engine as one of the request: its prompt, its text, its end."""
    choice = output.outputs[0]
    is_token = choice.finish_reason == STOP
    choice.text = text.add(choice.token_ids, is_end=output.finished, reason=(STOP, None) if is_token else None)
    if text.stop is not None:
        choice.finish_reason, choice.stop_reason, output.finished = STOP, text.stop, True
        choice.token_ids = choice.token_ids[: text.kept]
    output.prompt_token_ids = prompt_ids
    output.num_cached_tokens = min(output.num_cached_tokens or 0, len(prompt_ids))
    return output


def _split(output: Any, tokens: int, text: str) -> tuple[Any, Any]:
    """One output as two: the first has so many tokens and this text, the second the rest."""
    choice = output.outputs[0]
    first, second = copy(output), copy(output)
    one, other = copy(choice), copy(choice)
    one.token_ids, other.token_ids = choice.token_ids[:tokens], choice.token_ids[tokens:]
    one.text, other.text = choice.text[: len(text)], choice.text[len(text) :]
    if choice.logprobs is not None:
        one.logprobs, other.logprobs = choice.logprobs[:tokens], choice.logprobs[tokens:]
    one.finish_reason = one.stop_reason = None
    first.outputs, second.outputs, first.finished = [one], [other], False
    return first, second


def _joined(first: Any, second: Any) -> Any:
    """Two outputs as one."""
    one, other = first.outputs[0], second.outputs[0]
    output, choice = copy(second), copy(other)
    choice.token_ids = [*one.token_ids, *other.token_ids]
    choice.text = one.text + other.text
    if one.logprobs is not None and other.logprobs is not None:
        choice.logprobs = [*one.logprobs, *other.logprobs]
    output.outputs = [choice]
    return output
