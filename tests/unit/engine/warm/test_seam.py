"""When a replica has a warm parent, and what becomes of a vLLM that has no such seam; without vLLM."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cluster.engine.warm import seam
from cluster.engine.warm.context import Asking, WarmContext
from tests.unit.engine.plans import plan

ASKING = Asking(control=-1, settled={})


@pytest.fixture
def takers(monkeypatch: pytest.MonkeyPatch) -> list[ModuleType]:
    made = [ModuleType(name) for name in seam.TAKERS]
    for module in made:
        module.get_mp_context = lambda: "its own"  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def test_a_plan_without_fast_start_has_no_parent() -> None:
    made = plan("engine: {fast_start: false}")
    assert seam.start_warm_parent(made, os.environ) is None


def test_a_parent_that_cannot_be_started_is_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    with caplog.at_level(logging.WARNING, logger="longreach.engine"):
        assert seam.start_warm_parent(plan(), os.environ) is None
    assert "slower" in caplog.text


def test_both_takers_get_the_context_and_are_asked_first(takers: list[ModuleType]) -> None:
    asked = []
    for module in takers:
        module.get_mp_context = lambda name=module.__name__: asked.append(name)  # type: ignore[attr-defined]
    warm = seam.install(ASKING)
    assert isinstance(warm, WarmContext)
    assert [module.get_mp_context() for module in takers] == [warm, warm]
    assert asked == list(seam.TAKERS), "vLLM's own puts what it needs into the environment"


def test_with_a_part_of_the_seam_missing_nothing_is_changed(
    takers: list[ModuleType], caplog: pytest.LogCaptureFixture
) -> None:
    whole, broken = takers
    del broken.get_mp_context
    with caplog.at_level(logging.WARNING, logger="longreach.engine"):
        assert seam.install(ASKING) is None
    assert whole.get_mp_context() == "its own"
    assert broken.__name__ in caplog.text


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"architectures": ["Qwen3ForCausalLM"]}, ["Qwen3ForCausalLM"]),
        ({"architectures": None}, []),
        ({"architectures": [1, "A"]}, ["A"]),
        ([], []),
        (None, []),
    ],
)
def test_a_models_architectures_are_read_from_its_folder(tmp_path: Path, config: object, found: list[str]) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert seam._architectures(tmp_path) == found
