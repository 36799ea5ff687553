"""What a fresh engine does before it is ready, so that no stream waits for it: all that takes seconds the first time.

The first request for log probabilities has vLLM compile a part of its sampler (`torch.compile` in v1/sample/ops), 9 s
on two cores, 2 s from a cache; on GPUs other kernels wait for their first use too. Meanwhile the engine makes no step,
and every stream of the replica stands still. What must not live here: whether the engine works at all
(`VllmEngine.probe`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

TOKENS = 4
"""Enough for all that are asked together to meet in one step."""
SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
WAYS: Sequence[dict[str, Any]] = (
    {"temperature": 0.0, "presence_penalty": 0.1, "frequency_penalty": 0.1},
    {"temperature": 1.0, "top_p": 0.9, "top_k": 8, "min_p": 0.01},
    {"temperature": 1.0, "seed": 0, "repetition_penalty": 1.1},
)
"""Of sampling."""


async def rehearse(engine: Any) -> None:
    """Sample in every way, with log probabilities, and by a grammar.

    Args:
        engine: vLLM's AsyncLLM.

    Raises:
        Exception: vLLM's own, for what this model or its configuration refuses.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    async def ask(name: str, **fields: Any) -> None:
        params = SamplingParams(max_tokens=TOKENS, **fields)
        async for _ in engine.generate({"prompt_token_ids": [0]}, params, f"longreach-rehearsal-{name}"):
            pass

    await asyncio.gather(*(ask(str(row), logprobs=1, ignore_eos=True, **one) for row, one in enumerate(WAYS)))
    # By itself: not every model has a tokenizer that grammars understand.
    await ask("grammar", temperature=0.0, structured_outputs=StructuredOutputsParams(json=SCHEMA))
