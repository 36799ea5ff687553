"""`longreach loadtest quality` as a user starts it, against a fake engine whose answers differ on demand."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from loadtest.quality.answered import Condition, read_quality
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import Running, leases_of, running
from tests.quality_runs import quality

pytestmark = pytest.mark.integration

COUNTED = 2
"""Requests that count words before anything is asked."""
QUESTIONS = 4
SET = ("--lengths", "600", "--depths", "50", "--languages", "english", "--output-tokens", "4")
"""One question of each kind."""


@asynccontextmanager
async def gateway(engine: FakeEngine) -> AsyncIterator[Running]:
    async with serve(engine), running(store=leases_of(short=engine, long=engine)) as serving:
        yield serving


def in_turns(*more: dict[str, Any]) -> deque[dict[str, Any]]:
    """Each question is asked twice in a row; the second time most of it is cached."""
    asked = [{}, {"cached_tokens": 400}] * QUESTIONS
    for number, fields in enumerate(more):
        asked[number] = {**asked[number], **fields}
    return deque([*([{}] * COUNTED), *asked])


@pytest.mark.parametrize("api", ["rest", "grpc"])
async def test_equal_answers_pass(api: str, tmp_path: Path) -> None:
    engine = FakeEngine(tokens=4, script=in_turns())
    file, page = tmp_path / "run.json", tmp_path / "run.html"
    async with gateway(engine) as serving:
        url = [serving.grpc_address, "--grpc"] if api == "grpc" else [serving.url]
        arguments = ["--url", *url, *SET, "--conditions", "uncached,cached", "--exact", "--salt", "s", "--out", file]
        code, out, errors = await quality(*arguments, "--html", page)
    assert code == 0, out + errors
    run = read_quality(file)
    assert (run.api, run.conditions) == (api, (Condition.UNCACHED, Condition.CACHED))
    assert (run.arguments["salt"], run.arguments["lengths"]) == ("s", [600])
    assert [one.id.split("-")[0] for one in run.asked] == ["needle", "join", "order", "count"]
    asked = engine.seen[COUNTED:]
    assert len(asked) == 2 * QUESTIONS
    for number, one in enumerate(run.asked):
        first, second = asked[2 * number : 2 * number + 2]
        assert first.body["messages"] == second.body["messages"], "the same question, twice in a row"
        assert (first.body["temperature"], first.body["return_token_ids"]) == (0, True)
        assert "ignore_eos" not in first.body
        assert [one.replies[condition].cached_tokens for condition in run.conditions] == [0, 400]
        assert {reply.error for reply in one.replies.values()} == {""}
    assert "<svg" in page.read_text()
    assert "equal" in out


async def test_another_answer_fails_and_is_shown() -> None:
    engine = FakeEngine(tokens=4, script=in_turns({}, {}, {}, {"tokens": 3}))
    async with gateway(engine) as serving:
        code, out, errors = await quality("--url", serving.url, *SET, "--conditions", "uncached,cached", "--exact")
    assert code == 1, out + errors
    assert "1 answers differ; the first: join-english-600-d50-0, from" in out
    # By accuracy alone nothing is wrong: neither answer is right.
    engine.script.extend(in_turns({}, {}, {}, {"tokens": 3}))
    async with gateway(engine) as serving:
        arguments = ("--url", serving.url, *SET, "--conditions", "uncached,cached", "--json", "-")
        code, out, errors = await quality(*arguments)
    assert code == 0, out + errors
    told = json.loads(out)
    assert told["passes"]
    assert (told["comparisons"][0]["equal"], len(told["comparisons"][0]["splits"])) == (3, 1)


async def test_a_condition_that_does_not_hold_fails() -> None:
    engine = FakeEngine(tokens=4)
    async with gateway(engine) as serving:
        code, out, errors = await quality("--url", serving.url, *SET, "--conditions", "uncached,cached", "--exact")
    assert code == 1, out + errors
    assert "cached: the condition did not hold: 0.0% of the prompts' tokens were cached" in out


async def test_questions_are_asked_beside_a_load(tmp_path: Path) -> None:
    engine = FakeEngine(tokens=4, token_delay_s=0.02)
    file = tmp_path / "run.json"
    async with gateway(engine) as serving:
        arguments = [
            "--url",
            serving.url,
            *SET,
            "--conditions",
            "uncached,loaded",
            "--exact",
            "--load-concurrency",
            "3",
        ]
        code, out, errors = await quality(*arguments, "--out", file)
    assert code == 0, out + errors
    run = read_quality(file)
    assert all(one.replies[Condition.LOADED].beside >= 1 for one in run.asked)
    assert all(one.replies[Condition.UNCACHED].beside == 0 for one in run.asked)


async def test_two_runs_are_compared(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("before.json", "after.json", "other.json")]
    for file, tokens, salt in zip(files, (4, 3, 4), ("s", "s", "t"), strict=True):
        async with gateway(FakeEngine(tokens=tokens)) as serving:
            arguments = ["--url", serving.url, *SET, "--conditions", "uncached", "--salt", salt, "--out", file]
            code, out, errors = await quality(*arguments)
            assert code == 0, out + errors
    assert (await quality(files[0], files[0], "--exact", command="quality-compare"))[0] == 0
    code, out, errors = await quality(files[0], files[1], "--exact", command="quality-compare")
    assert code == 1, out + errors
    assert "after.json: uncached against before.json: uncached: 4 answers differ" in out
    assert (await quality(files[0], files[1], command="quality-compare"))[0] == 0
    code, _, errors = await quality(files[0], files[2], command="quality-compare")
    assert code == 1
    assert "the two runs asked different questions" in errors


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--conditions", "warm"], "--conditions: 'warm' is none"),
        (["--conditions", "uncached,single"], "--single-url"),
        (["--single-url", "http://127.0.0.1:9"], "--single-url"),
        (["--lengths", "1k"], "--lengths"),
        (["--load", "nonesuch"], "nonesuch"),
        (["--load-set", "spread=0"], "--load"),
        (["--url", "http://127.0.0.1:9"], "http://127.0.0.1:9"),
    ],
)
async def test_mistakes_are_told_before_anything_is_asked(arguments: list[str], word: str) -> None:
    code, _, errors = await quality(*arguments)
    assert code in {1, 2}
    assert word in errors
    assert "Traceback" not in errors
