"""The load client's own bench, end to end. Never a timing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.core.errors import SetupError
from loadtest.bench import native

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


def test_a_quick_bench_times_every_chunk() -> None:
    try:
        native.find_compiler()
    except SetupError as error:
        pytest.skip(error.problem)
    command = [sys.executable, "-m", "cluster.cli", "bench", "loadclient", "--quick", "--json", "-"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout)
    (repeat,) = found["repeats"]
    assert repeat["failed"] == 0
    assert min(repeat["chunks_per_s"], repeat["half_chunks_per_s"], repeat["burst_chunks_per_s"]) > 0
    # Nothing is read before it was sent.
    assert 0 < repeat["half_error_p50_ms"] <= repeat["half_error_p99_ms"]
    assert found["targets"]["chunks_per_s"] == 20_000
