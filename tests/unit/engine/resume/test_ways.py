"""Which requests are gone on with by one prefill, and which have to be generated once more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from cluster.engine.resume.ways import Way, way_of


def params(**fields: Any) -> SimpleNamespace:
    usual = {
        "temperature": 1.0, "seed": None, "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0,
        "structured_outputs": None, "logprobs": None, "prompt_logprobs": None, "logprob_token_ids": None,
        "bad_words": None, "thinking_token_budget": None, "repetition_detection": None, "watermarking": None,
    }  # fmt: skip
    return SimpleNamespace(**(usual | fields))


@pytest.mark.parametrize(
    "fields",
    [{}, {"temperature": 0.0, "seed": 7}, {"repetition_penalty": 1.3}, {"bad_words": []}, {"watermarking": False}],
)
def test_what_depends_on_the_tokens_alone_is_appended(fields: dict[str, Any]) -> None:
    assert way_of(params(**fields)) == (Way.APPEND, "")


@pytest.mark.parametrize(
    "fields",
    [{"seed": 7}, {"presence_penalty": 0.5}, {"frequency_penalty": -1.0}, {"structured_outputs": object()},
     {"logprobs": 0}, {"prompt_logprobs": 1}, {"bad_words": ["no"]},
     {"thinking_token_budget": 5}, {"watermarking": True}],
)  # fmt: skip
def test_what_counts_generated_tokens_is_replayed(fields: dict[str, Any]) -> None:
    assert way_of(params(**fields)) == (Way.REPLAY, next(iter(fields)))
