"""No tenant finds another's blocks, in the engine's cache, the host's tier or Redis; no adapter its predecessor's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.models.tiny import TinyFetch

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240.0
BLOCKS = 10
CACHED = BLOCKS * 128


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
    folder = tmp_path_factory.mktemp("isolation")
    model = folder / "tiny"
    model.mkdir()
    TinyFetch(seed=3, revision="generated-1").into(model, model, lambda *_: None)
    command = [sys.executable, "-m", "tests.tier_isolation", str(model), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def test_who_computed_a_prefix_finds_it(outcome: dict[str, Any]) -> None:
    """Without this the others' misses would prove nothing."""
    found = outcome["tenants"]
    assert (found["owner_first"]["cached"], found["owner_again"]["cached"]) == (0, CACHED)
    assert (found["owner_in_redis"]["cached"], found["owner_in_redis"]["loaded"]) == (CACHED, BLOCKS)


@pytest.mark.parametrize(("where", "owner"), [("others", "owner_first"), ("others_in_redis", "owner_in_redis")])
def test_no_other_salt_finds_it(outcome: dict[str, Any], where: str, owner: str) -> None:
    assert len(outcome["tenants"][where]) == 7
    for found in outcome["tenants"][where]:
        assert (found["cached"], found["loaded"]) == (0, 0), found
        assert found["tokens"] == outcome["tenants"][owner]["tokens"], "salts change no answer"


def test_a_copied_value_is_refused_deleted_and_counted(outcome: dict[str, Any]) -> None:
    found = outcome["copied"]["other"]
    assert (found["cached"], found["loaded"], found["bad"]) == (0, 0, BLOCKS)
    assert outcome["copied"]["kept"] == 0
    assert found["tokens"] == outcome["copied"]["owner"]["tokens"]


def test_an_adapter_is_known_by_its_content(outcome: dict[str, Any]) -> None:
    """The same name, the same path, other weights; and the base model, which shares no block with either."""
    old, new, again = outcome["old"], outcome["new"], outcome["old_again"]
    assert (old["cached"], old["loaded"]) == (0, 0), "the base model's blocks were in every cache"
    assert (new["cached"], new["loaded"]) == (0, 0)
    assert len({tuple(outcome[name]["tokens"]) for name in ("base", "old", "new")}) == 3
    assert (again["cached"], again["loaded"]) == (CACHED, BLOCKS)
    assert again["tokens"] == old["tokens"]
