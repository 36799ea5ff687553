"""What a fresh engine does before it is ready, so that no stream waits for it: all that takes seconds the first time.

The first request for log probabilities has vLLM compile a part of its sampler (`torch.compile` in v1/sample/ops), 9 s
on two cores, 2 s from a cache; on GPUs other kernels wait for their first use too. Meanwhile the engine makes no step,
and every stream of the replica stands still. What must not live here: whether the engine works at all
(`VllmEngine.probe`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

LIMIT_S = 120.0
"""What is not compiled by then is compiled under streams."""
TOKENS = 4
"""Enough for all that are asked together to meet in one step."""
SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
FREELY: Mapping[str, Any] = {"ignore_eos": True}
WAYS: Mapping[str, Mapping[str, Any]] = {
    "log probabilities": {**FREELY, "temperature": 0.0, "logprobs": 1},
    "penalties": {**FREELY, "temperature": 0.0, "presence_penalty": 0.1, "repetition_penalty": 1.1},
    "sampling": {**FREELY, "temperature": 1.0, "top_p": 0.9, "top_k": 8},
    "a seed": {**FREELY, "temperature": 1.0, "seed": 0, "min_p": 0.01},
    "a grammar": {"temperature": 0.0, "json": SCHEMA},
}


async def rehearse(engine: Any) -> dict[str, str]:
    """Make some tokens in every way.

    Args:
        engine: vLLM's AsyncLLM.

    Returns:
        Why a way did not work, by its name: this model or its configuration refuses it, or there was no time.
    """
    failed = dict.fromkeys(WAYS, f"not within {LIMIT_S:g} s")

    async def make(name: str, fields: Mapping[str, Any]) -> None:
        try:
            async for _ in engine.generate({"prompt_token_ids": [0]}, _params(**fields), f"longreach-rehearsal-{name}"):
                pass
        except Exception as error:  # noqa: BLE001 - whatever vLLM raises, the other ways go on
            failed[name] = str(error) or type(error).__name__
        else:
            del failed[name]

    _, late = await asyncio.wait([asyncio.create_task(make(*way)) for way in WAYS.items()], timeout=LIMIT_S)
    for task in late:
        task.cancel()
    return failed


def _params(json: Mapping[str, Any] | None = None, **fields: Any) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    outputs = StructuredOutputsParams(json=dict(json)) if json is not None else None
    return SamplingParams(max_tokens=TOKENS, structured_outputs=outputs, **fields)
