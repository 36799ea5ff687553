"""Where a resumed request meets vLLM's engine: each choice on its way, and all of them as one request's outputs.

What must not live here: HTTP, the outputs of one choice (going_on.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from cluster.engine.call import Call
from cluster.engine.resume.forcing import PROCESSOR
from cluster.engine.resume.going_on import Made, appended, replayed
from cluster.engine.resume.ways import Way, way_of

Ask = Callable[..., AsyncGenerator[Any, None]]
"""Prompt, sampling parameters, and what is put behind the request's id."""


class CannotResumeError(Exception):
    """This engine cannot go on with a request of this kind."""


def add_processor(config: Any) -> None:
    """Let an engine be forced, where vLLM takes logits processors: not in pooling models, nor beside a draft model."""
    model = config.model_config
    if model.runner_type == "generate" and config.speculative_config is None:
        model.logits_processors = [*(model.logits_processors or ()), PROCESSOR]


def resumed(engine: Any, call: Call, ask: Ask, prompt: Any, params: Any) -> AsyncGenerator[Any, None]:
    """The outputs of a request whose client has some of them.

    Args:
        engine: vLLM's, for its tokenizer and the model's end tokens.
        call: of the request; learns the way.
        ask: asks the engine.
        prompt: vLLM's.
        params: of the whole request.

    Raises:
        CannotResumeError: the way it takes is not open here.
    """
    assert call.delivered is not None
    way, _ = way_of(params)
    if way is Way.REPLAY and PROCESSOR not in (engine.model_config.logits_processors or ()):
        raise CannotResumeError("this engine takes no logits processor, so that nothing can be generated once more")
    call.way = way.value
    choices = []
    for number in range(params.n):
        made = Made(groups=[group.ids for group in call.delivered.groups if group.choice == number])
        generate = partial(ask, suffix="" if params.n == 1 else f"-{number}")
        own = _own_params(engine, params, number)
        detokenizer = partial(_detokenizer, engine.input_processor.tokenizer, prompt, own)
        if not made.groups:
            choices.append(generate(prompt, own))
        else:
            going_on = appended if way is Way.APPEND else replayed
            choices.append(going_on(generate, prompt, own, made, detokenizer))
    return choices[0] if len(choices) == 1 else _together(choices)


def _own_params(engine: Any, params: Any, number: int) -> Any:
    """Of one choice, as vLLM itself makes them (v1/engine/parallel_sampling.py), with the model's end tokens."""
    own = params.clone()
    if own.n > 1:
        own.n = 1
        own.seed = None if own.seed is None else own.seed + number
    fields = engine.input_processor.generation_config_fields
    own.update_from_generation_config(fields, engine.renderer.get_eos_token_id())
    return own


def _detokenizer(tokenizer: Any, prompt: Any, params: Any) -> Any:
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

    request = SimpleNamespace(
        request_id="", sampling_params=params, prompt_token_ids=prompt["prompt_token_ids"], prompt_embeds=None
    )
    return IncrementalDetokenizer.from_new_request(tokenizer if params.detokenize else None, request)


async def _together(choices: list[AsyncGenerator[Any, None]]) -> AsyncGenerator[Any, None]:
    """Outputs of several choices as they come, each with its number; only the very last is the request's end."""
    pending: dict[asyncio.Task[Any], int] = {}
    async with contextlib.AsyncExitStack() as stack:
        for choice in choices:
            await stack.enter_async_context(contextlib.aclosing(choice))

        def step(number: int) -> None:
            pending[asyncio.ensure_future(anext(choices[number], None))] = number

        for number in range(len(choices)):
            step(number)
        try:
            while pending:
                done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=pending.__getitem__):
                    number, output = pending.pop(task), task.result()
                    if output is None:
                        continue
                    output.outputs[0].index = number
                    if output.finished:
                        output.finished = not pending
                    else:
                        step(number)
                    yield output
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
