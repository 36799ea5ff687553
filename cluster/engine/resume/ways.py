"""How a stream is gone on with: emitted tokens appended to the prompt, or generated once more under force.

*Append* is one prefill, most of it from caches. It is right where the next token depends on the tokens before it
alone, wherever the prompt ends. *Replay* takes a decode step a token, in which everything that counts generated
tokens counts them again: grammars, penalties, random numbers. What must not live here: vLLM's types.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Way(StrEnum):
    """How; also how it is told."""

    APPEND = "append"
    REPLAY = "replay"


_STATEFUL = (
    "structured_outputs", "logprobs", "prompt_logprobs", "logprob_token_ids", "bad_words", "thinking_token_budget",
    "repetition_detection", "watermarking",
)  # fmt: skip
"""Sampling parameters whose effect depends on which tokens were generated. A repetition penalty is none of them: vLLM
counts prompt and output alike. Source: vLLM 0.32, v1/sample."""
_PENALTIES = ("presence_penalty", "frequency_penalty")
GREEDY_BELOW = 1e-5
"""Temperatures under it are greedy to vLLM, and draw no random numbers (sampling_params.py, _SAMPLING_EPS)."""


def way_of(params: Any) -> tuple[Way, str]:
    """The way for these sampling parameters, and the field that asks for it; empty where none does."""
    for name in _STATEFUL:
        value = getattr(params, name, None)
        # No logprobs are None; 0 asks for the sampled token's.
        if value is not None and value is not False and value != []:
            return Way.REPLAY, name
    if getattr(params, "seed", None) is not None and params.temperature >= GREEDY_BELOW:
        return Way.REPLAY, "seed"
    for name in _PENALTIES:
        if getattr(params, name, 0.0):
            return Way.REPLAY, name
    return Way.APPEND, ""
