"""Real vLLM: a stream of every kind, cut anywhere, goes on as if it had not been."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.models.tiny import TinyFetch
from tests.resume_kinds import KINDS, OUTGROWN

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
REPLAYED = {
    "penalties", "seeded", "logprobs", "json", "tool", "choices",
    "responses_json", "responses_tool", "responses_logprobs",
}  # fmt: skip


def trial(folder: Path, cuts: int, timeout_s: float) -> dict[str, Any]:
    pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
    TinyFetch(seed=3, revision="generated-1").into(folder, folder, lambda *_: None)
    command = [sys.executable, "-m", "tests.resume_engine", str(folder), str(cuts)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check(found: dict[str, Any], least: int) -> None:
    assert found.keys() == KINDS.keys()
    assert sum(one["cuts"] for one in found.values()) >= least
    for name, one in found.items():
        assert one["events"] > 3, f"{name}: {one['error']}"
        assert one["differing"] == [], name
        assert one["outgrown"] == ("" if name in OUTGROWN else None), name
        assert one["ways"] == ["replay" if name in REPLAYED else "append"], name


@pytest.mark.timeout(400)
def test_cut_at_drawn_events(tmp_path: Path) -> None:
    check(trial(tmp_path, cuts=2, timeout_s=380), least=20)


@pytest.mark.slow
@pytest.mark.timeout(2000)
def test_cut_after_every_event(tmp_path: Path) -> None:
    check(trial(tmp_path, cuts=0, timeout_s=1900), least=300)
