"""The planner against a real engine: as many KV blocks as vLLM counts, and a calibration of its speed."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.core.capacity.replica import kv_blocks
from cluster.core.errors import ModelStoreError
from cluster.environment import read_environment
from cluster.models.catalog import find
from cluster.models.opening import open_store
from cluster.models.tiny import TinyFetch
from cluster.planner.calibration import read_calibration

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 240.0
CALIBRATE_TIMEOUT_S = 300.0
QUICK = ("--repeats", "1", "--longest-prompt", "1500", "--most-running", "4")
"""A dozen measurements: on a busy machine the whole set takes minutes."""
KV_GIB = 0.5
OFF_MAX = 0.05


@contextmanager
def engine(model: str, folder: Path, log: Path) -> Iterator[dict[str, Any]]:
    """A running engine: its blocks, the tokens of each, and the port it serves on."""
    pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
    command = [sys.executable, "-m", "tests.plan_engine", model, str(folder), str(KV_GIB)]
    with log.open("wb") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = b""
        while not said.startswith(b"{"):
            ready, _, _ = select.select([process.stdout], [], [], START_TIMEOUT_S)
            said = process.stdout.readline() if ready else b""
            assert said, log.read_text(encoding="utf-8", errors="replace")[-5000:]
        yield json.loads(said)
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


def expected_blocks(model: str, block_tokens: int) -> int:
    card = find(model)
    assert card is not None
    return kv_blocks(int(KV_GIB * 2**30), token_bytes=card.kv_bytes_per_token, block_tokens=block_tokens)


def calibrate(model: str, port: int, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster.cli", "plan", "calibrate", "--model", model, "--gpu", "cpu"]
    command += ["--url", f"http://127.0.0.1:{port}", "--output", str(output), *options]
    environment = {**os.environ, "LONGREACH_API_KEY": ""}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=CALIBRATE_TIMEOUT_S, check=False
    )


def test_blocks_and_speed_of_the_tiny_model(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    TinyFetch(seed=3, revision="generated-1").into(folder, folder, lambda *_: None)
    with engine("tiny", folder, tmp_path / "engine.log") as found:
        assert found["blocks"] == pytest.approx(expected_blocks("tiny", found["block_tokens"]), rel=OFF_MAX)
        done = calibrate("tiny", found["port"], tmp_path / "c.json", *QUICK)
    assert done.returncode == 0, done.stderr
    calibration = read_calibration(tmp_path / "c.json")
    sys.stdout.write(f"\ntiny: {found}, expected {expected_blocks('tiny', found['block_tokens'])}\n{done.stdout}")
    assert calibration.cost.base_s + calibration.cost.weights_s > 0
    assert calibration.median_error_ratio < 1


@pytest.mark.slow
def test_blocks_and_speed_of_the_demo_model(tmp_path: Path) -> None:
    try:
        folder = open_store(read_environment()).path("demo")
    except ModelStoreError:
        pytest.skip("the demo model is not on this machine: longreach models pull demo")
    with engine("demo", folder, tmp_path / "engine.log") as found:
        assert found["blocks"] == pytest.approx(expected_blocks("demo", found["block_tokens"]), rel=OFF_MAX)
        done = calibrate("demo", found["port"], tmp_path / "c.json", *QUICK)
    assert done.returncode == 0, done.stderr
    sys.stdout.write(f"\ndemo: {found}, expected {expected_blocks('demo', found['block_tokens'])}\n{done.stdout}")
    assert read_calibration(tmp_path / "c.json").median_error_ratio < 1
