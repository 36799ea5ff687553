"""With the KV tier as without any cache, token for token, whatever happens to Redis and to the replica meanwhile."""

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
LOADED_RATIO_MIN = 0.3
"""Of all prompt tokens, from Redis and not from the engine's or the host's memory."""


def trial(folder: Path, *, conversations: int, turns: int, seed: int, timeout_s: float) -> dict[str, Any]:
    pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
    model = folder / "tiny"
    model.mkdir()
    TinyFetch(seed=3, revision="generated-1").into(model, model, lambda *_: None)
    command = [sys.executable, "-m", "tests.tier_equality", str(model), str(folder)]
    command += [str(number) for number in (conversations, turns, seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print({name: value for name, value in found.items() if name != "wrong"})  # noqa: T201 - with -s, for who measures
    return found


def check(found: dict[str, Any]) -> None:
    assert found["wrong"] == []
    assert found["loaded_ratio"] >= LOADED_RATIO_MIN
    happened = found["events"]
    assert {"restart", "damage", "lose", "squeeze", "replica_kill", "reset"} <= happened.keys()
    assert found["totals"]["vllm:redis_tier_bad_values"] > 0, "nothing damaged was ever found"
    assert found["totals"]["vllm:redis_tier_failures"] > 0, "nobody noticed that Redis was away"
    assert found["evicted_by_redis"] > 0
    warm = [start for start in found["warm"] if start["known_blocks"]]
    assert warm, "no new replica began with a prefix that Redis knew"
    for start in warm:
        assert start["cached"] >= start["known_blocks"] * found["block_tokens"], start
        assert start["loaded"] >= start["cached"], "a new replica has nothing else than Redis"


def test_some_conversations(tmp_path: Path) -> None:
    found = trial(tmp_path, conversations=6, turns=5, seed=7, timeout_s=300)
    assert found["cases"] >= 30
    check(found)


@pytest.mark.slow
def test_many_conversations(tmp_path: Path) -> None:
    found = trial(tmp_path, conversations=32, turns=7, seed=2, timeout_s=580)
    assert found["cases"] >= 200
    check(found)
