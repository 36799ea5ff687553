"""The gateway in front of engines that misbehave, over real sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from cluster.core import wire
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import Leases, lease, leases_of, running
from tests.small_tokenizer import write_model

DEAD = "http://127.0.0.1:9"


async def test_short_goes_to_the_short_pool_and_long_to_the_long_one() -> None:
    async with (
        serve(FakeEngine(name="s")) as short,
        serve(FakeEngine(name="l")) as long,
        running(store=leases_of(short=short, long=long)) as gateway,
    ):
        first = await gateway.chat(10)
        second = await gateway.chat(2000)
    assert (first.status_code, first.headers["x-longreach-pool"], first.headers["x-longreach-replica"]) == (
        200,
        "short",
        "short",
    )
    assert second.headers["x-longreach-pool"] == "long"
    assert "long is the smallest pool that holds them" in second.headers["x-longreach-reason"]
    assert len(short.seen) == len(long.seen) == 1
    assert first.headers["x-request-id"].startswith("req-")


async def test_a_replica_gets_decisions_in_headers_and_the_clients_own_body() -> None:
    async with serve(FakeEngine()) as engine, running(store=leases_of(short=engine)) as gateway:
        await gateway.client.post(
            "/v1/chat/completions",
            json={"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "custom": 1},
            headers={
                "authorization": "Bearer client-secret",
                "x-request-disconnect-disabled": "?1",
                "x-request-timeout-seconds": "1",
                "x-longreach-output-tokens": "9999",
                "x-longreach-refusal": "x",
                "x-request-id": "mine-1",
                "cookie": "a=b",
            },
        )
    headers = {key.lower(): value for key, value in engine.seen[0].headers.items()}
    assert engine.seen[0].body["model"] == "gpt-4o"
    assert engine.seen[0].body["custom"] == 1
    assert headers[wire.HEADER_MODEL] == "tiny"
    assert headers[wire.HEADER_OUTPUT_TOKENS] == "100"
    assert headers["x-request-id"] == "mine-1"
    assert not {"authorization", "x-request-disconnect-disabled", "x-request-timeout-seconds", "cookie"} & set(headers)
    assert wire.HEADER_REFUSAL not in headers


async def test_an_adapter_goes_by_its_own_name() -> None:
    async with serve(FakeEngine()) as engine, running(store=leases_of(short=engine)) as gateway:
        await gateway.chat(model="tiny-sql")
    assert engine.seen[0].headers[wire.HEADER_MODEL] == "tiny-sql"


async def test_a_refusal_moves_the_request_to_the_larger_pool() -> None:
    async with (
        serve(FakeEngine(context_tokens=10)) as short,
        serve(FakeEngine()) as long,
        running(store=leases_of(short=short, long=long)) as gateway,
    ):
        answer = await gateway.chat(50)
    assert answer.status_code == 200
    # The replica's exact count fits the configured limit, so only its refusal can have moved it.
    assert answer.headers["x-longreach-pool"] == "long"
    assert answer.headers["x-longreach-attempts"] == "2"
    assert wire.HEADER_REFUSAL not in answer.headers


async def test_refused_by_every_pool_is_a_400_with_the_exact_count() -> None:
    async with (
        serve(FakeEngine(context_tokens=10)) as short,
        serve(FakeEngine(context_tokens=10)) as long,
        running(store=leases_of(short=short, long=long)) as gateway,
    ):
        answer = await gateway.chat(50, max_tokens=7)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
    assert "Your prompt has 50 tokens and asks for 7 of output: 57 in all" in error["message"]


async def test_a_silent_request_shrinks_to_what_the_largest_pool_leaves() -> None:
    async with serve(FakeEngine(context_tokens=4000)) as long, running(store=leases_of(long=long)) as gateway:
        answer = await gateway.chat(3950)
    assert answer.status_code == 200
    # No tokenizer here: the estimate is too long for every pool, the replica says 3950, and 50 tokens are left.
    assert [seen.headers[wire.HEADER_OUTPUT_TOKENS] for seen in long.seen] == ["100", "50"]


@pytest.mark.parametrize("status", [503, 429])
async def test_a_busy_replica_is_passed_over(status: int) -> None:
    async with serve(FakeEngine(status=status)) as busy, serve(FakeEngine()) as free:
        store = Leases([lease("short", busy.url, name="busy"), lease("short", free.url, name="free", load=5)])
        async with running(store=store) as gateway:
            answer = await gateway.chat()
    assert (answer.status_code, answer.headers["x-longreach-replica"]) == (200, "free")
    assert answer.headers["x-longreach-attempts"] == "2"


@pytest.mark.parametrize("status", [503, 429])
async def test_all_busy_says_when_to_come_back(status: int) -> None:
    async with (
        serve(FakeEngine(status=status, answer_headers={"retry-after": "7"})) as busy,
        running(store=leases_of(short=busy)) as gateway,
    ):
        answer = await gateway.chat()
        again = await gateway.chat()
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert len(busy.seen) == 2
    assert again.json()["error"]["code"] == "overloaded"


async def test_a_dead_replica_is_passed_over_and_comes_last_for_a_while() -> None:
    async with serve(FakeEngine()) as alive:
        store = Leases([lease("short", DEAD, name="dead"), lease("short", alive.url, name="alive", load=5)])
        async with running(store=store) as gateway:
            first, second = await gateway.chat(), await gateway.chat()
    assert [first.status_code, second.status_code] == [200, 200]
    assert first.headers["x-longreach-attempts"] == "2"
    assert "x-longreach-attempts" not in second.headers


async def test_nobody_alive_is_503_with_retry_after() -> None:
    async with running(store=Leases([lease("short", DEAD), lease("long", DEAD)])) as gateway:
        answer = await gateway.chat()
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"]["code"] == "no_replica_available"


async def test_no_replica_at_all_is_503_and_draining_ones_get_nothing() -> None:
    async with serve(FakeEngine()) as engine:
        store = Leases([lease("short", engine.url, state="draining")])
        async with running(store=store) as gateway:
            answer = await gateway.chat()
            ready = await gateway.client.get("/ready")
    assert (answer.status_code, ready.status_code, engine.seen) == (503, 503, [])
    assert ready.json()["pools"]["short"] == {"draining": 1}


@pytest.mark.parametrize("reset", ["before-head", "after-head"])
async def test_a_reset_before_the_first_byte_is_tried_once_elsewhere(reset: str) -> None:
    async with serve(FakeEngine(reset=reset)) as bad, serve(FakeEngine()) as good:
        store = Leases([lease("short", bad.url, name="bad"), lease("short", good.url, name="good", load=5)])
        async with running(store=store) as gateway:
            answer = await gateway.chat(stream=True)
    assert answer.headers["x-longreach-replica"] == "good"
    assert answer.text.endswith("data: [DONE]\n\n")
    assert (len(bad.seen), len(good.seen)) == (1, 1)


async def test_a_request_that_breaks_two_engines_does_not_get_a_third() -> None:
    engines = [FakeEngine(reset="before-head") for _ in range(3)]
    async with serve(engines[0]), serve(engines[1]), serve(engines[2]):
        store = Leases([lease("short", engine.url) for engine in engines])
        async with running(store=store) as gateway:
            answer = await gateway.chat()
    assert answer.status_code == 502
    assert sum(len(engine.seen) for engine in engines) == 2


async def test_over_the_concurrency_limit_is_429() -> None:
    config = """
    models: [{id: tiny}]
    pools: [{name: short, model: tiny, context_tokens: 4000}]
    gateway: {limits: {concurrent_requests: 1}}
    """
    async with serve(FakeEngine(think_s=0.5)) as engine, running(config, store=leases_of(short=engine)) as gateway:
        first = asyncio.create_task(gateway.chat())
        await asyncio.wait_for(engine.started.wait(), 5)
        second = await gateway.chat()
        assert (await first).status_code == 200
        third = await gateway.chat()
    assert (second.status_code, second.headers["retry-after"]) == (429, "1")
    assert third.status_code == 200


async def test_a_burst_spreads_before_any_lease_tells_of_it() -> None:
    async with serve(FakeEngine(think_s=0.3)) as one, serve(FakeEngine(think_s=0.3)) as two:
        store = Leases([lease("short", one.url), lease("short", two.url)])
        async with running(store=store) as gateway:
            await asyncio.gather(*(gateway.chat() for _ in range(20)))
    assert (len(one.seen), len(two.seen)) == (10, 10)


async def test_one_engine_of_two_down_loses_nothing() -> None:
    async with serve(FakeEngine()) as alive:
        store = Leases([lease("short", DEAD), lease("short", alive.url)])
        async with running(store=store) as gateway:
            answers = await asyncio.gather(*(gateway.chat() for _ in range(200)))
            metrics = await gateway.metrics()
    assert {answer.status_code for answer in answers} == {200}
    assert 'longreach_requests_total{outcome="ok",pool="short",route="chat/completions"} 200.0' in metrics


async def test_redis_away_keeps_the_last_known_replicas() -> None:
    async with serve(FakeEngine()) as engine:
        store = leases_of(short=engine)
        async with running(store=store) as gateway:
            store.is_away = True
            await asyncio.sleep(0.6)
            assert (await gateway.chat()).status_code == 200
            store.held, store.is_away = [], False
            await asyncio.sleep(0.6)
            # Back and empty: the replicas have a lease's life to write theirs again.
            assert (await gateway.chat()).status_code == 200
            assert gateway.gateway.directory.age_s is not None


async def test_an_engine_error_passes_as_it_is() -> None:
    async with serve(FakeEngine(status=400)) as engine, running(store=leases_of(short=engine)) as gateway:
        answer = await gateway.chat()
    assert (answer.status_code, answer.json()) == (400, {"error": {"message": "status 400"}})
    assert answer.headers["x-longreach-pool"] == "short"


async def test_boundaries_of_a_chat_are_exact_with_the_models_own_tokenizer(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    frame = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"

    def tokens_of(text: str) -> int:
        return len(tokenizer.encode(frame.format(text)).ids)

    text = "你"
    while tokens_of(text) < 950:
        text += "好 ok"
    tokens = tokens_of(text)
    async with (
        serve(FakeEngine()) as short,
        serve(FakeEngine()) as long,
        running(store=leases_of(short=short, long=long), tokenizers={"tiny": folder}) as gateway,
    ):
        message = [{"role": "user", "content": text}]
        at = await gateway.chat(messages=message, max_tokens=1000 - tokens)
        over = await gateway.chat(messages=message, max_tokens=1001 - tokens)
        small = await gateway.chat()
    assert at.headers["x-longreach-pool"] == "short"
    assert at.headers["x-longreach-reason"].startswith(f"prompt {tokens} + output {1000 - tokens} = 1000 tokens")
    assert over.headers["x-longreach-pool"] == "long"
    assert small.headers["x-longreach-reason"].startswith("prompt at most ")


async def test_the_longest_that_any_pool_holds_and_one_more(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    async with (
        serve(FakeEngine()) as long,
        running(store=leases_of(long=long), tokenizers={"tiny": folder}) as gateway,
    ):
        whole = await gateway.client.post("/v1/completions", json={"model": "tiny", "prompt": "~" * 9000})
        count = int(whole.json()["error"]["message"].split(" has ")[1].split(" tokens")[0].replace(",", ""))
        body = {"model": "tiny", "prompt": [7] * 3999}
        last = await gateway.client.post("/v1/completions", json=body)
        full = await gateway.client.post("/v1/completions", json={**body, "prompt": [7] * 4000})
    assert (whole.status_code, whole.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert count > 4000
    # A request that names no output gets what is left, as long as that is something.
    assert (last.status_code, long.seen[0].headers[wire.HEADER_OUTPUT_TOKENS]) == (200, "1")
    assert full.status_code == 400
