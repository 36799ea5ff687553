"""Which engines can be forced: those that generate, and draft nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cluster.engine.resume.engine import add_processor
from cluster.engine.resume.forcing import PROCESSOR


@pytest.mark.parametrize(
    ("runner", "draft", "expected"),
    [("generate", None, ["own", PROCESSOR]), ("pooling", None, ["own"]), ("generate", object(), ["own"])],
)
def test_only_engines_that_generate_without_a_draft_are_forced(runner: str, draft: object, expected: list[str]) -> None:
    model = SimpleNamespace(runner_type=runner, logits_processors=["own"])
    add_processor(SimpleNamespace(model_config=model, speculative_config=draft))
    assert model.logits_processors == expected
