"""guidellm: what it is told, and a result that it wrote against a running cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from cluster.models.tiny import tiny_tokenizer
from loadtest.arrivals import Spacing
from loadtest.judges.guidellm import CONFIGURATION, LOCK, PROMPTS, RESULT, VERSION, GuideLlm, configuration
from loadtest.judges.judge import JudgeError
from loadtest.judges.taken import figures_of
from tests.judged import LOAD, order

RECORDED = Path(__file__).parent / "data" / "guidellm-0.8.1.json"


@pytest.mark.parametrize(
    ("load", "profile"),
    [
        (LOAD, {"kind": "constant", "rate": [2.5]}),
        (replace(LOAD, spacing=Spacing.POISSON), {"kind": "poisson", "rate": [2.5]}),
        (replace(LOAD, rate_per_s=None, concurrency=3), {"kind": "concurrent", "streams": [3]}),
    ],
)
def test_a_load_is_a_profile(load: Any, profile: dict[str, Any], tmp_path: Path) -> None:
    spec = configuration(order(tmp_path, load=load))["spec"]
    assert spec["profile"] == profile
    assert spec["constraints"] == [{"kind": "max_requests", "count": 5}]
    assert spec["seed"]["value"] == 7


def test_prompts_have_their_tokens_and_are_new_each_time(tmp_path: Path) -> None:
    tiny_tokenizer().write(tmp_path)
    asked = order(tmp_path)
    command = GuideLlm().command(asked)
    assert command.arguments[-2:] == (str(tmp_path / CONFIGURATION), "--disable-console")
    assert json.loads((tmp_path / CONFIGURATION).read_text()) == configuration(asked)
    rows = [json.loads(line) for line in (tmp_path / PROMPTS).read_text().splitlines()]
    assert {row["output_tokens_count"] for row in rows} == {8}
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = [row["prompt"] for row in rows]
    assert [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts] == [50] * 5
    assert len(set(texts)) == 5
    GuideLlm().command(replace(asked, fresh=asked.fresh + 1))
    again = [json.loads(line)["prompt"] for line in (tmp_path / PROMPTS).read_text().splitlines()]
    assert not {*texts} & {*again}


def test_a_key_is_in_the_environment_alone(tmp_path: Path) -> None:
    tiny_tokenizer().write(tmp_path)
    command = GuideLlm().command(order(tmp_path, api_key="lr-secret", ca_file=tmp_path / "ca.pem"))
    assert command.variables["GUIDELLM__SPEC__BACKEND__API_KEY"] == "lr-secret"
    assert command.variables["SSL_CERT_FILE"] == str(tmp_path / "ca.pem")
    assert "lr-secret" not in " ".join(command.arguments)
    assert not any("lr-secret" in path.read_text() for path in tmp_path.iterdir() if path.is_file())


def test_its_lock_pins_its_version_and_names_no_address() -> None:
    lines = LOCK.read_text().splitlines()
    assert f"guidellm=={VERSION}" in lines
    assert not any("://" in line or line.startswith("-") for line in lines)


def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def test_what_it_recorded_is_what_it_says(tmp_path: Path) -> None:
    told = recorded()["benchmarks"][0]
    (tmp_path / RESULT).write_bytes(RECORDED.read_bytes())
    found = figures_of(GuideLlm().read(tmp_path))
    metrics = {name: value["successful"] for name, value in told["metrics"].items() if name != "request_totals"}
    assert (found.answered, found.failed) == (told["metrics"]["request_totals"]["successful"], 0)
    ttft = metrics["time_to_first_token_ms"]
    assert 1000 * found.ttft_mean_s == pytest.approx(ttft["mean"])
    assert 1000 * found.ttft_p95_s == pytest.approx(ttft["percentiles"]["p95"])
    # What it calls ITL is what is called TPOT elsewhere: from the first to the last token, over those after the first.
    assert 1000 * found.tpot_mean_s == pytest.approx(metrics["inter_token_latency_ms"]["mean"])
    assert (found.prompt_tokens, found.output_tokens) == (200, 16)
    assert 0 < found.late_p95_s < 0.1
    assert found.due_ttft_p50_s > found.ttft_p50_s


@pytest.mark.parametrize("kind", ["errored", "incomplete"])
def test_unanswered_requests_are_counted(kind: str, tmp_path: Path) -> None:
    told = recorded()
    requests = told["benchmarks"][0]["requests"]
    requests[kind].append({**requests["successful"].pop(), "output_tokens": None})
    (tmp_path / RESULT).write_text(json.dumps(told))
    taken = GuideLlm().read(tmp_path)
    assert (len(taken.answers), taken.failed) == (9, 1)


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({"benchmarks": []}, "0 benchmarks"),
        ({"results": []}, "benchmarks"),
        ({"benchmarks": [{"requests": {"successful": [{}], "errored": [], "incomplete": []}}]}, "successful.0.info"),
    ],
)
def test_another_result_is_refused(told: dict[str, Any], word: str, tmp_path: Path) -> None:
    (tmp_path / RESULT).write_text(json.dumps(told))
    with pytest.raises(JudgeError, match=word):
        GuideLlm().read(tmp_path)
