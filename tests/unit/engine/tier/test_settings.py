"""Which pools get a Redis tier, and which are told why not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cluster.core.errors import ConfigError, SetupError
from cluster.engine.arguments import vllm_arguments
from cluster.shared_memory import SHARED_MEMORY, sweep_named
from tests.unit.engine.plans import CUDA, GIB, plan

ON = "engine: {redis_tier: {enabled: true%s}%s}"
REDIS = "{cache_url: 'rediss://r:7000', cache_user: tier, cache_password_env: TIER_PASSWORD, cache_ca_file: /ca.pem}"


def test_it_is_off_by_default() -> None:
    assert plan().redis_tier is None
    assert plan(redis=REDIS).redis_tier is None


def test_a_tier_without_a_server_is_an_error_that_names_both_ways_out() -> None:
    with pytest.raises(SetupError, match=r"pool short: .*redis\.cache_url") as raised:
        plan(ON % ("", ""))
    assert raised.value.remedy == "set redis.cache_url, or switch redis_tier off for this pool"


def test_the_host_holds_one_context_unless_told_otherwise() -> None:
    made = plan(ON % ("", ""), redis=REDIS, hardware=CUDA).redis_tier
    assert made is not None
    assert made.host_bytes == 32_768 * 24 * 2 * 64 * 2 * 2
    assert (made.url, made.user, made.password_env, made.ca_file) == (
        "rediss://r:7000",
        "tier",
        "TIER_PASSWORD",
        "/ca.pem",
    )
    told = plan(ON % (", host_gib: 2.5, ttl_s: 60", ""), redis=REDIS).redis_tier
    assert told is not None
    assert (told.host_bytes, told.ttl_s) == (int(2.5 * GIB), 60)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("nnodes: 2", "several hosts"),
        ("distributed-executor-backend: ray", "several hosts"),
        ("enable_prefix_caching: false", "no blocks to keep"),
        ("no-enable-prefix-caching: true", "no blocks to keep"),
        ("kv-transfer-config: {}", "attached with"),
        ("prefix_caching_hash_algo: sha256", "sha256_cbor"),
    ],
)
def test_what_excludes_it_is_said(extra: str, reason: str) -> None:
    with pytest.raises(SetupError, match=reason):
        plan(ON % ("", f", extra_args: {{{extra}}}"), redis=REDIS)
    assert plan(f"engine: {{extra_args: {{{extra}}}}}", redis=REDIS).redis_tier is None


@pytest.mark.parametrize(
    "redis",
    [
        "{cache_url: 'redis://user:secret@r'}",
        "{cache_url: 'http://r'}",
        "{cache_url: 'redis://r', cache_password_env: A, cache_password_file: /b}",
        "{cache_user: u}",
        "{cache_ca_file: /ca.pem}",
        "{cache_url: 'redis://r', cache_gib: 2}",
        "{cache_gib: 0.01}",
    ],
)
def test_what_contradicts_itself_is_a_mistake_and_so_is_a_password(redis: str) -> None:
    with pytest.raises(ConfigError):
        plan(redis=redis)


def test_arguments_without_it_say_nothing_of_it() -> None:
    assert "--kv-transfer-config" not in vllm_arguments(plan(redis=REDIS))


@pytest.mark.skipif(not SHARED_MEMORY.is_dir(), reason="no /dev/shm on this system")
def test_only_old_leftovers_that_nobody_maps_are_swept(tmp_path: Path) -> None:
    import mmap

    prefix = f"longreach-test-{os.getpid()}-"
    files = {name: SHARED_MEMORY / f"{prefix}{name}" for name in ("left", "mapped", "fresh")}
    long_ago_s = time.time() - 1000
    for name, file in files.items():
        file.write_bytes(bytes(4096))
        if name != "fresh":
            os.utime(file, (long_ago_s, long_ago_s))
    try:
        with files["mapped"].open("r+b") as opened, mmap.mmap(opened.fileno(), 4096):
            assert sweep_named(prefix, older_than_s=60) == [files["left"]]
        assert files["fresh"].exists()
        assert files["mapped"].exists()
    finally:
        for file in files.values():
            file.unlink(missing_ok=True)
