"""`longreach loadtest judge` as a user runs it: real judges against the real cluster.

Whether they agree is not asserted: that takes a quiet machine (docs/loadtesting.md has figures). That both sent the
same load, that every request was answered and that all was measured is.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.judges.agreement import JUDGED, Verdict
from loadtest.judges.guidellm import GuideLlm
from loadtest.judges.judge import Judge
from loadtest.judges.table import SAYINGS
from loadtest.judges.vllm_bench import VllmBench
from loadtest.run_file import read_run
from tests.cluster_harness import Cluster

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
REQUESTS = 4
PROMPT_TOKENS = 200
OUTPUT_TOKENS = 8


async def judged(judge: Judge, cluster: Cluster, folder: Path, *load: str) -> tuple[dict[str, Any], str]:
    """What the command said of two rounds, as JSON and in words; what the tools wrote is in `folder`."""
    command = [
        sys.executable, "-m", "cluster.cli", "loadtest", "judge", judge.name, "--url", cluster.url, "--model", "tiny",
        "--tokenizer", str(cluster.model_folder("tiny")), "--prompt-tokens", str(PROMPT_TOKENS),
        "--output-tokens", str(OUTPUT_TOKENS), "--requests", str(REQUESTS), "--repeats", "2",
        "--out", str(folder / "kept"), "--json", str(folder / "verdict.json"), *load,
    ]  # fmt: skip
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stderr=pipe)
    out, errors = await process.communicate()
    if "cannot be installed" in errors.decode():
        pytest.skip(f"no environment of {judge.name} can be made here: {errors.decode()[-400:]}")
    assert (folder / "verdict.json").exists(), (out + errors).decode()
    told: dict[str, Any] = json.loads((folder / "verdict.json").read_text())
    assert process.returncode == (0 if told["verdict"] == "agrees" else 1)
    return told, out.decode()


def check(judge: Judge, told: dict[str, Any], out: str, kept: Path) -> None:
    assert told["faults"] == []
    assert told["figures"].keys() == {*JUDGED}
    for side in ("ours", "theirs"):
        assert len(told["rounds"][side]) == 2
        for one in told["rounds"][side]:
            assert (one["answered"], one["failed"]) == (REQUESTS, 0)
            assert (one["prompt_tokens"], one["output_tokens"]) == (PROMPT_TOKENS, OUTPUT_TOKENS)
            assert all(one[name] > 0 for name in JUDGED if name.startswith("ttft") or name.endswith("per_s"))
    # Nothing was in the prefix cache from the other tool or the round before, but what every prompt begins with.
    assert all(record.cached_tokens < PROMPT_TOKENS / 2 for number in (1, 2) for record in ours(kept, number))
    assert f"{judge.title} " in out
    assert SAYINGS[Verdict(told["verdict"])] in out


def ours(kept: Path, number: int) -> Any:
    return read_run(kept / f"round-{number}" / "ours.jsonl.gz").records


async def test_vllm_bench_serve(cluster: Cluster, tmp_path: Path) -> None:
    try:
        importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("vLLM is not installed in this environment")
    judge = VllmBench()
    told, out = await judged(judge, cluster, tmp_path, "--rate", "4")
    check(judge, told, out, tmp_path / "kept")
    theirs = json.loads((tmp_path / "kept" / "round-1" / "result.json").read_text())
    assert (theirs["completed"], theirs["request_rate"], theirs["backend"]) == (REQUESTS, 4.0, "openai-chat")


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_guidellm(cluster: Cluster, tmp_path: Path) -> None:
    judge = GuideLlm()
    told, out = await judged(judge, cluster, tmp_path, "--concurrency", "2")
    check(judge, told, out, tmp_path / "kept")
    (theirs,) = json.loads((tmp_path / "kept" / "round-1" / "result.json").read_text())["benchmarks"]
    assert all(one["cached_tokens"] < PROMPT_TOKENS / 2 for one in theirs["requests"]["successful"])
