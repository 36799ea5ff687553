"""The load client against a gateway and a fake engine, over real sockets: its records say what really happened."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cluster.sockets import free_port
from loadtest.client.aim import Aim
from loadtest.client.runner import Pace, Runner
from loadtest.client.sampling import Sampler
from loadtest.client.worker import open_transport
from loadtest.plan import Kind, Session, Turn
from loadtest.record import Record
from tests.authority import Authority
from tests.fake_engine import FakeEngine, serve
from tests.gateway_harness import TWO_POOLS, Running, leases_of, running
from tests.tls_front import tls_front

pytestmark = pytest.mark.integration

NO_WAITING = f"{TWO_POOLS}\ngateway: {{limits: {{queue_s: 0.2}}}}\n"
"""A gateway that does not wait for the one engine to come back."""
APIS = pytest.mark.parametrize("api", ["rest", "grpc"])


@dataclass(slots=True, kw_only=True)
class Place:
    """A gateway in front of one engine."""

    engine: FakeEngine
    gateway: Running

    def aim(self, api: str, **fields: Any) -> Aim:
        url = self.gateway.grpc_address if api == "grpc" else self.gateway.url
        return Aim(url=url, model="tiny", is_grpc=api == "grpc", **fields)


@asynccontextmanager
async def place(engine: FakeEngine, **gateway: Any) -> AsyncIterator[Place]:
    async with serve(engine), running(store=leases_of(short=engine), **gateway) as serving:
        yield Place(engine=engine, gateway=serving)


def session(*texts: str, at_s: float = 0.0, output_tokens: int = 5, **fields: Any) -> Session:
    turns = tuple(Turn(text=text, output_tokens=output_tokens) for text in texts or ("one two three",))
    return Session(at_s=at_s, turns=turns, **fields)


async def send(aim: Aim, sessions: Sequence[Session], **pace: Any) -> list[Record]:
    records: list[Record] = []
    transport = open_transport(aim)
    runner = Runner(transport, aim=aim, pace=Pace(**pace), name="lt", keep=records.append)
    await runner.run(iter(enumerate(sessions)), time.monotonic())
    await transport.close()
    counts = runner.counts
    assert (counts.in_flight, counts.done + counts.failed) == (0, len(records))
    return records


@APIS
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("streams", [True, False])
async def test_a_good_answer_is_recorded_as_the_engine_gave_it(api: str, kind: Kind, streams: bool) -> None:
    async with place(FakeEngine(tokens=5, cached_tokens=2)) as here:
        (record,) = await send(here.aim(api, streams=streams), [session(kind=kind, label="chat")])
        (seen,) = here.engine.seen
    assert (record.status, record.error, record.code) == (200, "", "")
    assert (record.prompt_tokens, record.cached_tokens, record.output_tokens) == (3, 2, 5)
    assert (record.pool, record.replica, record.label) == ("short", "short", "chat")
    assert record.first_token_s is not None
    assert record.due_s <= record.sent_s <= record.first_token_s <= record.ended_s
    if streams and api == "rest":
        assert len(record.gaps_s) == 4
    elif streams:
        # Deltas that are there at the same time may travel in one message.
        assert len(record.gaps_s) <= 4
    else:
        assert list(record.gaps_s) == []
    body = seen.body
    assert (body["ignore_eos"], body.get("max_tokens") or body["max_completion_tokens"]) == (True, 5)


@APIS
async def test_a_conversation_grows_by_its_own_answers(api: str) -> None:
    async with place(FakeEngine(tokens=2)) as here:
        told = session("first", "second", system="be brief", keeps=True, priority="low")
        records = await send(here.aim(api), [told])
        bodies = [seen.body["messages"] for seen in here.engine.seen]
    said = [(one["role"], one["content"]) for one in bodies[1]]
    assert said == [
        ("system", "be brief"), ("user", "first"), ("assistant", "token0 token1 "), ("user", "second"),
    ]  # fmt: skip
    assert [(one.turn, one.error) for one in records] == [(0, ""), (1, "")]
    assert records[1].due_s == pytest.approx(records[0].ended_s, abs=1e-5)


@APIS
@pytest.mark.parametrize(
    ("engine", "status", "error", "code"),
    [
        (FakeEngine(status=429), 429, "refused", "overloaded"),
        (FakeEngine(status=503), 503, "unavailable", "overloaded"),
        (FakeEngine(reset="before-head"), 502, "unavailable", "upstream_broken"),
        (FakeEngine(reset="mid-stream"), 200, "broken", "upstream_broken"),
        (FakeEngine(reset="mid-stream", reset_by="close"), 200, "broken", "upstream_broken"),
    ],
    ids=["429", "503", "no answer", "reset", "closed"],
)
async def test_failures_have_their_kinds(api: str, engine: FakeEngine, status: int, error: str, code: str) -> None:
    engine = replace(engine, seen=[], token_delay_s=0.001)
    async with place(engine, config_text=NO_WAITING) as here:
        (record,) = await send(here.aim(api), [session()])
    assert (record.status, record.error, record.code) == (status, error, code)
    if error == "broken":
        # What came before it broke is there.
        assert record.first_token_s is not None
    else:
        assert record.first_token_s is None


@APIS
async def test_a_refused_prompt_and_an_unknown_model_are_refused(api: str) -> None:
    async with place(FakeEngine()) as here:
        (long,) = await send(here.aim(api), [session("word " * 9000)])
        (unknown,) = await send(replace(here.aim(api), model="nonesuch"), [session()])
    assert (long.status, long.error, long.code) == (400, "refused", "context_length_exceeded")
    assert (unknown.status, unknown.error, unknown.code) == (404, "refused", "model_not_found")


@APIS
@pytest.mark.parametrize("hang", ["before-head", "mid-stream"])
async def test_an_answer_that_does_not_come_in_time_is_a_timeout(api: str, hang: str) -> None:
    async with place(FakeEngine(hang=hang)) as here:
        (record,) = await send(here.aim(api, timeout_s=0.3), [session()])
        await asyncio.wait_for(here.engine.aborted.wait(), 10)
    # gRPC's deadline travels: the gateway may have answered it.
    assert record.error == "timeout" or (api == "grpc" and record.code == "deadline_exceeded")
    assert record.ended_s - record.due_s >= 0.25
    assert (record.first_token_s is not None) is (hang == "mid-stream")


@APIS
async def test_nobody_there_is_a_connection_error(api: str) -> None:
    url = f"127.0.0.1:{free_port()}"
    aim = Aim(url=url if api == "grpc" else f"http://{url}", model="tiny", is_grpc=api == "grpc", timeout_s=5)
    (record,) = await send(aim, [session()])
    assert (record.status, record.error, record.first_token_s) == (0, "connection", None)


async def test_an_engine_that_closes_without_an_end_is_broken() -> None:
    async with serve(FakeEngine(reset="mid-stream", reset_by="close", token_delay_s=0.001)) as engine:
        (broken,) = await send(Aim(url=engine.url, model="tiny"), [session()])
        engine.reset = "before-head"
        (gone,) = await send(Aim(url=engine.url, model="tiny"), [session()])
    assert (broken.status, broken.error, len(broken.gaps_s)) == (200, "broken", 1)
    assert (gone.status, gone.error) == (0, "connection")


@APIS
async def test_the_open_loop_waits_for_nobody(api: str) -> None:
    script = deque([{"hang": "before-head"}, {}, {}])
    async with place(FakeEngine(script=script)) as here:
        due = [0.0, 0.1, 0.2]
        records = await send(here.aim(api, timeout_s=0.6), [session(at_s=at_s) for at_s in due])
    by_session = sorted(records, key=lambda one: one.session)
    assert [one.due_s for one in by_session] == due
    assert all(one.sent_s >= one.due_s for one in records)
    assert [bool(one.error) for one in by_session] == [True, False, False]
    # Sent while the first was still waiting.
    assert by_session[2].ended_s < by_session[0].ended_s


@APIS
async def test_what_the_client_cannot_send_is_its_own_error(api: str) -> None:
    async with place(FakeEngine(hang="before-head")) as here:
        records = await send(here.aim(api, timeout_s=0.5), [session() for _ in range(5)], in_flight_max=2)
        assert len(here.engine.seen) <= 2
    assert sorted(one.code for one in records if one.error == "client") == ["in_flight_max"] * 3


@APIS
async def test_a_closed_loop_has_so_many_at_once_and_ends_in_time(api: str) -> None:
    async with place(FakeEngine(tokens=2, token_delay_s=0.01)) as here:
        records = await send(here.aim(api), [session() for _ in range(10_000)], concurrency=3, duration_s=0.5)
    assert 3 <= len(records) < 10_000
    assert not any(one.error for one in records)
    # At no moment were more than three under way.
    edges = sorted([(one.sent_s, 1) for one in records] + [(one.ended_s, -1) for one in records])
    under_way = most = 0
    for _, change in edges:
        under_way += change
        most = max(most, under_way)
    assert most <= 3
    assert max(one.due_s for one in records) < 0.5


@APIS
async def test_what_is_under_way_when_the_run_is_over_is_cut_off(api: str) -> None:
    async with place(FakeEngine(hang="mid-stream")) as here:
        (record,) = await send(here.aim(api), [session()], duration_s=0.1, drain_s=0.2)
        await asyncio.wait_for(here.engine.aborted.wait(), 10)
    assert (record.error, record.code, record.status) == ("timeout", "run_ended", 200)
    assert record.first_token_s is not None


@APIS
async def test_a_run_that_is_stopped_keeps_what_there_is(api: str) -> None:
    async with place(FakeEngine(script=deque([{}, {"hang": "mid-stream"}]))) as here:
        records: list[Record] = []
        aim = here.aim(api)
        transport = open_transport(aim)
        runner = Runner(transport, aim=aim, pace=Pace(), name="lt", keep=records.append)
        sessions = [session(), session(at_s=0.1), session(at_s=3600.0)]
        run = asyncio.create_task(runner.run(iter(enumerate(sessions)), time.monotonic()))
        async with asyncio.timeout(10):
            while len(here.engine.seen) < 2:  # noqa: ASYNC110 - the engine has no event for its second request
                await asyncio.sleep(0.01)
        runner.stop()
        await asyncio.wait_for(run, 10)
        await transport.close()
    assert [(one.error, one.code) for one in records] == [("", ""), ("client", "stopped")]


async def test_each_tenant_sends_its_key() -> None:
    async with serve(FakeEngine()) as engine:
        aim = Aim(url=engine.url, model="tiny", api_key="lr-run", keys={"gold": "lr-gold"}, priority="high")
        await send(aim, [session(tenant="gold"), session(at_s=0.05, priority="low", keeps=True)])
        gold, other = (seen.headers for seen in engine.seen)
    lower = [{name.lower(): value for name, value in seen.items()} for seen in (gold, other)]
    assert [one["authorization"] for one in lower] == ["Bearer lr-gold", "Bearer lr-run"]
    assert [one["x-longreach-priority"] for one in lower] == ["high", "low"]
    assert [one["x-request-id"] for one in lower] == ["lt-0-0", "lt-1-0"]
    assert [one.get("x-longreach-session") for one in lower] == [None, "lt-1"]


async def test_memory_and_replicas_are_sampled() -> None:
    async with place(FakeEngine()) as here:
        sampler = Sampler(here.gateway.admin_url, api_key=None, duration_s=60)
        found = await asyncio.to_thread(sampler.sample)
        begun_s = time.monotonic()
        sampler.start(begun_s)
        async with asyncio.timeout(10):
            while not sampler.samples:  # noqa: ASYNC110 - filled by a thread
                await asyncio.sleep(0.01)
        (sample,) = await asyncio.to_thread(sampler.end)
    assert found["short_replicas"] == 1
    assert sample["short_replicas"] == 1
    assert sample["at_s"] >= 0
    assert sampler.fault == ""


async def test_rest_with_tls_trusts_who_it_was_told_to(tmp_path: Path) -> None:
    async with place(FakeEngine()) as here:
        with tls_front(int(here.gateway.url.rsplit(":", 1)[1]), tmp_path) as (front, authority):
            aim = Aim(url=front.replace("rediss", "https"), model="tiny", timeout_s=10)
            (good,) = await send(replace(aim, ca_file=authority), [session()])
            (bad,) = await send(aim, [session()])
    assert (good.status, good.error, good.output_tokens) == (200, "", 5)
    assert (bad.status, bad.error, bad.code) == (0, "connection", "certificate_verify_failed")


async def test_grpc_with_tls_trusts_who_it_was_told_to(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    cert_file, key_file = authority.issue("localhost")
    config = f"{TWO_POOLS}\ngateway: {{tls: {{cert_file: {cert_file}, key_file: {key_file}}}}}\n"
    async with place(FakeEngine(), config_text=config) as here:
        url = f"grpcs://localhost:{here.gateway.grpc_address.rsplit(':', 1)[1]}"
        aim = Aim(url=url, model="tiny", is_grpc=True, timeout_s=10)
        (good,) = await send(replace(aim, ca_file=authority.file), [session()])
        (bad,) = await send(aim, [session()])
    assert (good.status, good.error, good.output_tokens) == (200, "", 5)
    assert (bad.status, bad.error) == (0, "connection")
