"""Measuring an OpenAI-compatible server: what is asked of it, what is made of the answers, what is said to refusals.

The server is the fake engine, over real sockets; that times mean something is tests/integration/test_plan_engine.py's.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.core.capacity.step import prefill_pairs
from cluster.core.errors import LongreachError, SetupError
from cluster.planner.fit import fit_cost
from cluster.planner.measure import Target, measure
from tests.fake_engine import FakeEngine, serve

TARGET = Target(url="", model="m", batch_tokens=100, longest_prompt_tokens=300, most_running=4, repeats=1, seed=1)


def silent(_what: str) -> None:
    pass


async def test_prompts_and_batches_are_measured() -> None:
    told: list[str] = []
    async with serve(FakeEngine(tokens=20, token_delay_s=0.01)) as engine:
        target = replace(TARGET, url=engine.url, headers={"authorization": "Bearer k"})
        found = await measure(target, told.append)
    assert target.prompt_lengths == (128, 158, 196, 242, 300)
    assert [one.name for one in found[:5]] == [f"prefill of 1 with {tokens}" for tokens in target.prompt_lengths]
    assert found[4].steps == ((3.0, 100),)
    assert found[0].steps == ((1.0, 100), (1.0, 28))
    assert found[4].attended_tokens == prefill_pairs(0, 300)
    assert [(one.begun, one.ways, one.seconds > 0) for one in found[5:7]] == [(2, 1, True), (4, 1, True)]
    assert found[6].steps == ((5.0, 100), (1.0, 12))
    decodes = found[7:]
    assert [(one.decoded, one.begun, one.ways) for one in decodes] == [(size, 0, 0) for size in (1, 2, 4, 1, 2, 4)]
    assert decodes[2].context_tokens == 4 * (128 + 10)
    assert all(one.seconds > 0 for one in found)
    assert len(told) == target.rounds == 1 + 5 + 2 + 6
    assert len(engine.seen) == 1 + 5 + (2 + 4) + 2 * (1 + 2 + 4)
    assert all(seen.headers["Authorization"] == "Bearer k" for seen in engine.seen)
    prompts = [seen.body["prompt"].split()[0] for seen in engine.seen]
    assert len(set(prompts)) == len(prompts), "no prompt begins as another: nothing is cached"
    assert fit_cost(found).cost.base_s >= 0


async def test_a_refusal_is_passed_on() -> None:
    async with serve(FakeEngine(status=404)) as engine:
        with pytest.raises(LongreachError, match=r"answered 404: .*status 404"):
            await measure(replace(TARGET, url=engine.url), silent)


async def test_nobody_there_is_told_with_a_remedy() -> None:
    with pytest.raises(SetupError) as raised:
        await measure(replace(TARGET, url="http://127.0.0.1:9"), silent)
    assert "--url" in raised.value.remedy


async def test_a_stream_without_tokens_measures_nothing() -> None:
    async with serve(FakeEngine(reset="after-head")) as engine:
        with pytest.raises((LongreachError, SetupError)):
            await measure(replace(TARGET, url=engine.url), silent)


async def test_streams_that_never_meet_are_no_batch() -> None:
    """A server that answers one at a time: every stream ends before the next begins."""
    async with serve(FakeEngine(tokens=1, token_delay_s=0.0)) as engine:
        target = replace(TARGET, url=engine.url, most_running=2)
        engine.script.extend([{}] * 8)  # the first request, the five prompts and the two at once
        engine.script.extend([{"tokens": 3}, {"think_s": 0.3, "tokens": 1}, {"tokens": 1}])
        with pytest.raises(LongreachError, match="never decoded at the same time"):
            await measure(target, silent)
