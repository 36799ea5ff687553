"""AsyncLLM that checks and counts: what its own application asks of it, in the name of a request (call.py).

What must not live here: starting it (vllm_engine.py), resuming (resume/).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any

from cluster.core.autoscaling.work import WorkMeter
from cluster.engine.call import CURRENT_CALL, Call
from cluster.engine.residency.seen import SeenPrompts
from cluster.engine.resume.engine import resumed
from cluster.engine.resume.going_on import LENGTH
from cluster.engine.tally import CallTally, Stamps
from cluster.engine.tier.link import TierLink


def checked_engine(
    prompts: SeenPrompts | None = None, tier: TierLink | None = None, meter: WorkMeter | None = None
) -> Any:
    """The class of a replica's engine.

    Args:
        prompts: where every prompt that was made of text is noted.
        tier: where its KV blocks go besides.
        meter: is told of arrivals.
    """
    from vllm.renderers.inputs.preprocess import extract_prompt_len
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    class CheckedEngine(AsyncLLM):  # type: ignore[misc]
        """AsyncLLM that refuses an output that would not fit, where vLLM would shorten it, and counts every token."""

        def generate(self, prompt: Any, sampling_params: Any, request_id: str, **kwargs: Any) -> Any:
            # A plain function on purpose: it raises when called, before the caller has sent a response head.
            call = CURRENT_CALL.get()
            if call is not None and call.budget is not None:
                prompt_tokens = extract_prompt_len(self.model_config, prompt)
                sampling_params = fitted(sampling_params, call, prompt_tokens, self.model_config.max_model_len)
            if meter is not None:
                meter.arrived(time.monotonic(), is_alone=not self.output_processor.request_states)
            if prompts is not None:
                _note(prompts, prompt)

            def ask(prompt: Any, params: Any, suffix: str = "") -> AsyncGenerator[Any, None]:
                lora, own_id = kwargs.get("lora_request"), f"{request_id}{suffix}"
                if tier is None:
                    return generate(prompt, params, own_id, **kwargs)
                salted = tier.salted(prompt, lora)
                return tier.outputs(lambda params: generate(salted, params, own_id, **kwargs), salted, params, lora)

            generate: Callable[..., AsyncGenerator[Any, None]] = super().generate
            if call is not None and call.delivered is not None:
                outputs = resumed(self, call, ask, prompt, sampling_params)
            else:
                outputs = ask(prompt, sampling_params)
            if call is None:
                return outputs
            is_delta = sampling_params.output_kind == RequestOutputKind.DELTA
            # Numbered here and not at the first output: vLLM calls in the order of a request's prompts.
            return counted(outputs, call, call.tally.begin(sampling_params.n), is_delta=is_delta)

        def encode(self, *args: Any, **kwargs: Any) -> Any:
            call = CURRENT_CALL.get()
            outputs = super().encode(*args, **kwargs)
            return outputs if call is None else pooled(outputs, call, call.tally.begin(0))

    return CheckedEngine


def fitted(params: Any, call: Call, prompt_tokens: int, context_tokens: int) -> Any:
    """Sampling parameters with the output that a request may have in this context.

    Raises:
        ContextRefusedError: what it needs at least does not fit.
    """
    if call.budget is not None:
        call.budget.check(prompt_tokens, context_tokens)
    output_tokens = call.output_in(context_tokens - prompt_tokens)
    if output_tokens is None:
        return params
    params = params.clone()
    params.max_tokens = output_tokens
    return params


def prefill_tokens(output_processor: Any) -> int:
    """Prompt tokens of requests that have no first token yet; choices of one request share their prompt."""
    waiting = [state for state in output_processor.request_states.values() if state.is_prefilling]
    prompts = {id(state.parent_req) if state.parent_req else id(state): state.prompt_len for state in waiting}
    return sum(prompts.values())


def _note(prompts: SeenPrompts, prompt: Any) -> None:
    """Remember a prompt that was tokenized from text; nothing more happens on a request's path."""
    if isinstance(prompt, dict) and prompt.get("prompt") and prompt.get("prompt_token_ids"):
        prompts.note(prompt["prompt_token_ids"], prompt["prompt"])


async def counted(
    outputs: AsyncGenerator[Any, None], call: Call, part: CallTally, *, is_delta: bool
) -> AsyncGenerator[Any, None]:
    """The engine's outputs of one prompt, added to the request's tally as they pass."""
    async with contextlib.aclosing(call.watch(outputs)) as watched:
        async for output in watched:
            _count_prompt(call, part, output)
            stamps = _stamps(output.metrics)
            for choice in output.outputs:
                call.tally.output(part, choice.index, choice.token_ids, is_delta=is_delta, stamps=stamps)
                call.is_full |= call.is_short and choice.finish_reason == LENGTH
            yield output


async def pooled(outputs: AsyncGenerator[Any, None], call: Call, part: CallTally) -> AsyncGenerator[Any, None]:
    """As `counted`, for one input of a request that generates nothing."""
    async with contextlib.aclosing(call.watch(outputs)) as watched:
        async for output in watched:
            _count_prompt(call, part, output)
            yield output


def _count_prompt(call: Call, part: CallTally, output: Any) -> None:
    tokens = len(output.prompt_token_ids or ()) + len(getattr(output, "encoder_prompt_token_ids", None) or ())
    call.tally.prompt(part, prompt_tokens=tokens, cached_tokens=output.num_cached_tokens or 0)


def _stamps(metrics: Any) -> Stamps | None:
    """From vLLM's RequestStateStats; None where it keeps no statistics."""
    if metrics is None:
        return None
    return Stamps(
        queued_s=metrics.queued_ts,
        scheduled_s=metrics.scheduled_ts,
        first_token_s=metrics.first_token_ts,
        last_token_s=metrics.last_token_ts,
    )
