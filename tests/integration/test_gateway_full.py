"""Replicas that turn requests away as full, since other gateways were faster: nobody is refused who may wait."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import httpx

from cluster.core.lease import Lease
from tests.cluster_harness import until
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import Leases, Running, lease, running

CONFIG = """
models: [{{id: tiny}}]
pools: [{{name: short, model: tiny, context_tokens: 4000}}]
gateway: {{limits: {{queued_requests: {queued}, queue_s: {queue_s}}}}}
"""
PATH = "/v1/chat/completions"
WHOLE = {"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**WHOLE, "stream": True}


@dataclass(slots=True)
class Reports(Leases):
    """Leases that are written anew for each reading, with what `engines` have then; `told` is what they say instead."""

    engines: Sequence[FakeEngine] = ()
    told: int | None = None
    readings: itertools.count[int] = field(default_factory=itertools.count)

    async def leases(self) -> tuple[Lease, ...]:
        if self.is_away:
            raise ConnectionError("taken away")
        age_s = float(next(self.readings))
        return tuple(
            replace(
                lease("short", engine.url, name=engine.name, load=engine.in_flight if self.told is None else self.told),
                max_running=engine.places or 1,
                step_age_s=age_s,
            )
            for engine in self.engines
        )


def config(*, queued: int = 64, queue_s: float = 30) -> str:
    return CONFIG.format(queued=queued, queue_s=queue_s)


async def test_gateways_that_do_not_know_of_each_other_lose_nothing() -> None:
    engines = [FakeEngine(name=name, places=2, think_s=0.02) for name in ("a", "b")]
    store = Reports(engines=engines)
    async with (
        serve(engines[0]),
        serve(engines[1]),
        running(config(), store=store) as one,
        running(config(), store=store) as two,
    ):
        answers = await asyncio.gather(*(gateway.chat() for _ in range(30) for gateway in (one, two)))
        metrics = await one.metrics() + await two.metrics()
    assert Counter(answer.status_code for answer in answers) == {200: 60}
    # They did meet: the replicas turned some away.
    found = re.findall(r'longreach_attempts_total{pool="short",result="full"} (\d+)', metrics)
    assert sum(map(int, found)) == sum(len(engine.seen) for engine in engines) - 60 > 0


async def test_a_full_replica_is_asked_again_when_it_has_room() -> None:
    engine = FakeEngine(places=1, gate=asyncio.Event())
    async with (
        serve(engine),
        running(config(), store=Reports(engines=[engine], told=0)) as gateway,
        httpx.AsyncClient() as other,
    ):
        elsewhere = asyncio.create_task(other.post(f"{engine.url}{PATH}", json=STREAM))
        await engine.started.wait()
        asked = asyncio.create_task(gateway.chat())
        await until(lambda: len(engine.seen) >= 4, timeout_s=10, what="it is asked again and again")
        assert not asked.done()
        assert engine.gate is not None
        engine.gate.set()
        answer = await asked
        await elsewhere
    # Far more tries than `attempts` allows: a place that is gone already does not count.
    assert answer.status_code == 200
    assert int(answer.headers["x-longreach-attempts"]) >= 4


async def test_the_wait_ends_with_429() -> None:
    engine = FakeEngine(places=1, in_flight=1)
    async with serve(engine), running(config(queue_s=0.6), store=Reports(engines=[engine], told=0)) as gateway:
        answer = await gateway.chat()
    # Once at first, then after each reading of its lease, four a second: every wait counts.
    assert 2 <= len(engine.seen) <= 6
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1


async def test_where_nobody_may_wait_a_full_replica_ends_it_at_once_but_for_class_high() -> None:
    engine = FakeEngine(places=1, in_flight=1)
    limits = config(queued=0) + "tenants: [{name: default, priority: high}]\n"
    async with serve(engine), running(limits, store=Reports(engines=[engine], told=0)) as gateway:
        normal = await gateway.client.post(PATH, json=WHOLE, headers={"x-longreach-priority": "normal"})
        assert len(engine.seen) == 1
        high = asyncio.create_task(gateway.client.post(PATH, json=WHOLE, headers={"x-longreach-priority": "high"}))
        await until(lambda: len(engine.seen) >= 3, timeout_s=10, what="it is asked again")
        engine.in_flight = 0
        assert (normal.status_code, (await high).status_code) == (429, 200)


async def test_a_full_replica_is_asked_again_where_no_report_comes_any_more() -> None:
    """The state store is away: what a refusal said holds for a second."""
    engine = FakeEngine(places=1, in_flight=1)
    store = Reports(engines=[engine], told=0)
    async with serve(engine), running(config(), store=store) as gateway:
        store.is_away = True
        asked = asyncio.create_task(gateway.chat())
        await until(lambda: engine.seen, timeout_s=10, what="it is asked")
        engine.in_flight = 0
        assert (await asked).status_code == 200


async def test_the_rush_to_a_pools_first_replica_waits_on() -> None:
    """What a request was held for the replica is not of the time that it may wait for a place."""
    engine = FakeEngine(places=1, in_flight=1)
    store = Reports(told=0)
    limits = config(queue_s=1.5).replace("context_tokens: 4000", "context_tokens: 4000, replicas: {min: 0, max: 1}")
    async with serve(engine), running(limits, store=store) as gateway:
        asked = asyncio.create_task(gateway.chat())
        await _in_line(gateway, 1)
        await asyncio.sleep(2)  # longer than it may wait for a place
        store.engines = [engine]
        await until(lambda: len(engine.seen) >= 2, timeout_s=10, what="it is asked, and again")
        engine.in_flight = 0
        assert (await asked).status_code == 200


async def test_a_cut_stream_goes_before_those_who_wait_for_their_first_place() -> None:
    cut, other = FakeEngine(name="cut", places=1), FakeEngine(name="other", places=1, gate=asyncio.Event())
    cut.gate = asyncio.Event()
    engines = [cut, other]
    async with serve(cut), serve(other), running(config(queued=1), store=Reports(engines=engines)) as gateway:
        streams = [asyncio.create_task(_stream(gateway)) for _ in engines]
        await asyncio.gather(cut.started.wait(), other.started.wait())
        waiting = asyncio.create_task(gateway.chat())
        await _in_line(gateway, 1)
        assert cut.kill is not None
        await cut.kill()
        # The line is full, and has room for it all the same.
        await _in_line(gateway, 2)
        assert other.gate is not None
        other.gate.set()
        answers = [*await asyncio.gather(*streams), await waiting]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert [text.count("token") for text in (answers[0].text, answers[1].text)] == [5, 5]
    assert [bool(seen.body.get("stream")) for seen in other.seen] == [True, True, False]


async def _stream(gateway: Running) -> httpx.Response:
    return await gateway.client.post(PATH, json=STREAM)


async def _in_line(gateway: Running, count: int) -> None:
    await until(lambda: len(gateway.gateway.room) >= count, timeout_s=10, what=f"{count} in line")
