"""What two rounds of pages say of a cluster."""

from __future__ import annotations

import json

import pytest

from cluster.local.top.page import Page, parse_page
from cluster.local.top.sight import OF_GATEWAY, OF_REPLICA, PageOfReplica, Round, look


def gateway(read_s: float, *, ok: int, bad: int, output: int, cached: int) -> Page:
    text = f"""\
longreach_info{{version="1.2"}} 1.0
longreach_in_flight 3.0
longreach_queue_length{{priority="high"}} 0.0
longreach_queue_length{{priority="normal"}} 2.0
longreach_held_requests{{pool="short"}} 2.0
longreach_endpoints{{pool="short",state="ready"}} 1.0
longreach_endpoints{{pool="short",state="suspect"}} 1.0
longreach_pool_context_tokens{{pool="short"}} 4096.0
longreach_pool_context_tokens{{pool="empty"}} 32768.0
longreach_autoscale_replicas{{pool="short",kind="decided"}} 3.0
longreach_requests_total{{route="chat/completions",pool="short",outcome="ok"}} {ok}
longreach_requests_total{{route="chat/completions",pool="short",outcome="broken"}} {bad}
longreach_refused_total{{reason="overloaded"}} {bad}
longreach_refused_total{{reason="gateway_full"}} 7
longreach_tokens_total{{kind="prompt",pool="short",model="m"}} {4 * cached}
longreach_tokens_total{{kind="cached",pool="short",model="m"}} {cached}
longreach_tokens_total{{kind="output",pool="short",model="m"}} {output}
longreach_cpu_seconds_total {read_s / 2}
longreach_first_byte_seconds_bucket{{route="chat/completions",pool="short",le="0.5"}} {ok}
longreach_first_byte_seconds_bucket{{route="chat/completions",pool="short",le="+Inf"}} {ok}
"""
    return parse_page(text, OF_GATEWAY, read_s)


def replica(read_s: float, *, prompt: int, device: int, redis: int) -> Page:
    text = f"""\
vllm:num_requests_running{{engine="0"}} 4.0
vllm:num_requests_waiting{{engine="0"}} 1.0
vllm:kv_cache_usage_perc{{engine="0"}} 0.25
vllm:prompt_tokens_total{{engine="0"}} {prompt}
vllm:generation_tokens_total{{engine="0"}} 10
vllm:prompt_tokens_cached_by_source_total{{engine="0",source="device"}} {device}
vllm:prompt_tokens_cached_by_source_total{{engine="0",source="external_unspecified"}} {redis}
"""
    return parse_page(text, OF_REPLICA, read_s)


def of(replica_id: str, page: Page | None, error: str = "") -> PageOfReplica:
    return PageOfReplica(replica_id=replica_id, pool="short", model="m", page=page, error=error)


def rounds() -> tuple[Round, Round]:
    before = Round(
        gateway=gateway(10.0, ok=5, bad=0, output=100, cached=0),
        replicas=(of("a", replica(10.0, prompt=0, device=0, redis=0)),),
    )
    now = Round(
        gateway=gateway(12.0, ok=8, bad=1, output=300, cached=50),
        replicas=(
            of("a", replica(12.0, prompt=200, device=100, redis=50)),
            of("new", replica(12.0, prompt=9000, device=0, redis=0)),
            of("lost", None, "the replica failed: reset"),
        ),
    )
    return before, now


def test_a_pool_is_what_its_gateway_and_its_replicas_say() -> None:
    sight = look(*rounds())
    short, empty = sight.pools
    assert (short.pool, short.context_tokens, short.ready, short.suspect, short.wanted) == ("short", 4096, 1, 1, 3)
    assert (short.requests_per_s, short.bad_ratio) == (2.0, 0.25)
    assert (short.prompt_tokens_per_s, short.cached_ratio, short.output_tokens_per_s) == (100.0, 0.25, 100.0)
    assert (short.held, short.running, short.waiting, short.kv_use_ratio) == (2, 8, 2, 0.25)
    assert short.ttft_p50_s == 0.25
    assert (empty.pool, empty.ready, empty.running, empty.requests_per_s) == ("empty", 0, None, None)


def test_the_head_says_what_waits_and_what_was_refused_meanwhile() -> None:
    sight = look(*rounds())
    assert (sight.version, sight.seconds, sight.in_flight) == ("1.2", 2.0, 3)
    assert sight.queued == {"high": 0, "normal": 2}
    assert sight.refused_per_s == {"overloaded": 0.5}, "gateway_full has not grown"
    assert sight.cpu_cores == 0.5


def test_hits_are_told_by_tier() -> None:
    first = look(*rounds()).replicas[0]
    assert (first.device_ratio, first.host_ratio, first.redis_ratio) == (0.5, None, 0.25)


def test_a_replica_that_is_new_or_silent_has_no_rates() -> None:
    _, new, lost = look(*rounds()).replicas
    assert (new.running, new.prompt_tokens_per_s) == (4, None)
    assert (lost.running, lost.prompt_tokens_per_s, lost.error) == (None, None, "the replica failed: reset")


def test_it_is_json() -> None:
    data = json.loads(json.dumps(look(*rounds()).to_dict(), allow_nan=False))
    assert data["pools"][0]["cached_ratio"] == 0.25
    assert [row["replica_id"] for row in data["replicas"]] == ["a", "new", "lost"]


@pytest.mark.parametrize("page", [Page(read_s=1.0)])
def test_a_page_without_any_of_it_is_an_empty_sight(page: Page) -> None:
    sight = look(Round(gateway=page, replicas=()), Round(gateway=page, replicas=()))
    assert (sight.pools, sight.replicas, sight.requests_per_s, sight.version) == ((), (), None, "unknown")
