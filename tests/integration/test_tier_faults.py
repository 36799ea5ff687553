"""Whatever fails with the KV tier on, a request is answered right, and nothing waits for what does not come."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.models.tiny import TinyFetch

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300.0
BLOCKS = 40
HANG_S = 20.0
"""Computing takes a tenth of a second; a busy machine takes longer, a hang for ever."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
    folder = tmp_path_factory.mktemp("faults")
    model = folder / "tiny"
    model.mkdir()
    TinyFetch(seed=3, revision="generated-1").into(model, model, lambda *_: None)
    command = [sys.executable, "-m", "tests.tier_faults", str(model), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def answers(outcome: object) -> Iterator[dict[str, Any]]:
    if isinstance(outcome, dict):
        if "is_right" in outcome:
            yield outcome
        for each in outcome.values():
            yield from answers(each)
    elif isinstance(outcome, list):
        for each in outcome:
            yield from answers(each)


def test_every_answer_is_right_and_none_hangs(outcome: dict[str, Any]) -> None:
    every = list(answers(outcome))
    assert len(every) >= 12
    for answer in every:
        assert answer["is_right"], answer
        assert answer["took_s"] < HANG_S, answer


def test_a_value_of_another_type_is_deleted(outcome: dict[str, Any]) -> None:
    """The block is stored anew afterwards, for which the program waits."""
    assert outcome["wrong_type"]["cached_blocks"] == 7
    assert outcome["wrong_type"]["failures"] == 0


def test_a_full_redis_that_may_not_evict_is_no_fault(outcome: dict[str, Any]) -> None:
    assert sum(answer["dropped_blocks"] for answer in outcome["full"]) > 0
    assert [answer["failures"] for answer in outcome["full"]] == [0, 0]
    assert outcome["full_load"]["cached_blocks"] == BLOCKS, "what it has can be read"


def test_a_user_without_rights_finds_nothing_and_breaks_nothing(outcome: dict[str, Any]) -> None:
    for answer in outcome["no_rights"]:
        assert (answer["cached_blocks"], answer["failures"]) == (0, 0)
    assert outcome["rights_again"]["cached_blocks"] == BLOCKS


def test_redis_killed_in_the_middle_of_a_load(outcome: dict[str, Any]) -> None:
    assert outcome["was_in_load"]
    assert outcome["killed_in_load"]["cached_blocks"] < BLOCKS
    assert outcome["killed_in_load"]["failures"] > 0
    assert outcome["away"]["cached_blocks"] == 0
    assert outcome["back"]["cached_blocks"] == BLOCKS, "a restart is over once Redis answers"


@pytest.mark.parametrize("when", ["load", "store"])
def test_an_engine_core_killed_in_the_middle(outcome: dict[str, Any], when: str) -> None:
    """Its request ends with an error at once, Redis holds nothing broken, and the next replica goes on from there."""
    killed = outcome[f"core_killed_in_{when}"]
    assert killed["was_hit"]
    assert "EngineDeadError" in killed["error"]
    assert killed["took_s"] < HANG_S
    assert killed["broken"] == 0
    assert outcome[f"after_{when}_kill"]["cached_blocks"] == BLOCKS
