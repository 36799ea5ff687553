"""Redis as a secondary tier of vLLM's offloading: the part that runs on the scheduler's thread, and waits for nothing.

Whether a prompt's blocks are in Redis was found out before the engine saw the request (asking.py): a lookup here is a
comparison of two numbers, and its answer is final. A tier that answered "later" would put a request off by whole steps
of the engine, also when the answer then is no. What must not live here: waiting, sockets (transfers.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from vllm.distributed.kv_transfer.kv_connector.v1.offloading.metrics import OffloadingConnectorStats
from vllm.v1.kv_offload.base import (
    Locality,
    LookupResult,
    Medium,
    OffloadingCounterMetadata,
    OffloadingEvent,
    OffloadingGaugeMetadata,
    RequestOffloadingContext,
)
from vllm.v1.kv_offload.tiering.base import JobResult, SecondaryTierManager
from vllm.v1.metrics.cache_hit_source import CacheHitSource

from cluster.core.tier.keys import block_key
from cluster.engine.tier import stats, value
from cluster.engine.tier.connection import RedisServer
from cluster.engine.tier.fingerprint import fingerprint_of
from cluster.engine.tier.handshake import RequestTerms, TierFacts
from cluster.engine.tier.jobs import Kind
from cluster.engine.tier.transfers import Transfers
from cluster.environment import read_environment

log = logging.getLogger("longreach.tier")
QUEUE_RATIO = 0.25
"""Share of the host's tier that may wait for Redis at one time; it cannot be used for anything else meanwhile."""
WAIT_MIN_S = 0.05
"""A load that is given less than this is not worth beginning."""


class RedisTier(SecondaryTierManager):  # type: ignore[misc]
    """The tier, as vLLM's factory makes it from `secondary_tiers` of the connector's configuration.

    Args:
        offloading_spec: vLLM's.
        primary_kv_view: the host's tier, (chunks, bytes of a chunk).
        tier_type: vLLM's name for this class.
        backpressure_detector: vLLM's; the queue here is bounded by itself.
        server: a RedisServer as a mapping.
        ttl_s: how long a block lives after its last use.
        content: digest of the model's weights.
        facts_path: where to leave the TierFacts.
    """

    medium: ClassVar[Medium] = Medium.STORAGE
    cache_hit_source: ClassVar[CacheHitSource] = CacheHitSource.EXTERNAL_UNSPECIFIED

    def __init__(
        self,
        offloading_spec: Any,
        primary_kv_view: memoryview,
        tier_type: str,
        backpressure_detector: Any = None,
        *,
        server: dict[str, str],
        ttl_s: int,
        content: str,
        facts_path: str,
    ) -> None:
        super().__init__(offloading_spec, primary_kv_view, tier_type, backpressure_detector)
        self.locality = Locality.REMOTE
        self._view = primary_kv_view.cast("B")
        self._row_bytes: int = self.block_size_bytes
        copies = 1 if offloading_spec.replicated_layout else offloading_spec.config.parallel.world_size
        # A row ends with padding up to a page, which is nobody's.
        self._payload_bytes: int = offloading_spec.cpu_page_size_per_worker * copies
        config = offloading_spec.config
        if len(config.groups) != 1:
            raise ValueError(
                f"the Redis tier needs a model with one kind of attention; this one has {len(config.groups)} "
                "groups of KV cache: switch redis_tier off for its pool"
            )
        self._fingerprint = fingerprint_of(_fields(config, self._payload_bytes, content))
        facts = TierFacts(
            fingerprint=self._fingerprint,
            block_tokens=config.groups[0].tokens_per_block * config.cache.blocks_per_chunk,
            payload_bytes=self._payload_bytes,
            host_blocks=len(self._view) // self._row_bytes,
        )
        self._block_tokens = facts.block_tokens
        facts.write(Path(facts_path))
        self._transfers = Transfers(
            RedisServer(**server),
            ttl_s=ttl_s,
            queue_bytes=max(int(QUEUE_RATIO * len(self._view)), self._payload_bytes),
        )
        self._loads: dict[int, tuple[list[bytes], Any]] = {}
        """Keys and request of each load under way."""
        self._stores: dict[int, list[bytes]] = {}
        """Keys of each store under way."""
        self._kept: list[bytes] = []
        """Keys that were found to be in Redis and not told yet."""
        self._tells = bool(offloading_spec.kv_events_config.enable_kv_cache_events)
        self._thread_s = 0.0
        """What the tier took of the scheduler's thread since the last statistics."""
        self._misses = self._hits = 0
        self._has_told = False
        """Whether statistics were asked for before."""
        log.info("KV blocks of %d bytes in Redis, fingerprint %s", self._payload_bytes, self._fingerprint)

    def on_new_request(self, req_context: Any) -> Any:
        """Read the request's terms."""
        req_context.set_state(RequestTerms.of(req_context.kv_transfer_params))
        return RequestOffloadingContext()

    def lookup(self, key: bytes, req_context: Any) -> Any:
        """HIT up to the token up to which the blocks were found, MISS behind it; never a later answer.

        A HIT has vLLM fetch the block, and keeps the request waiting. Fetched blocks can be evicted from the host's
        memory, by other requests' or its own, before the engine has taken all of them, and would be fetched again, and
        again: so a request gets as many HITs as it has blocks in Redis, and computes the rest.
        """
        began_s = time.perf_counter()
        terms = req_context.get_state(RequestTerms)
        is_hit = False
        if terms is not None and terms.known_tokens:
            position = req_context.get_offload_key_position(key)
            is_known = position is not None and position <= terms.known_tokens
            is_hit = is_known and self._transfers.is_up and terms.tried * self._block_tokens < terms.known_tokens
            terms.tried += is_hit
        if is_hit:
            self._hits += 1
        else:
            self._misses += 1
        self._thread_s += time.perf_counter() - began_s
        return LookupResult.HIT if is_hit else LookupResult.MISS

    def submit_load(self, job_metadata: Any) -> None:
        """Begin to fetch, for as long as computing would take."""
        began_s = time.perf_counter()
        keys, context = list(job_metadata.keys), job_metadata.req_context
        terms = _terms(context)
        self._loads[job_metadata.job_id] = (keys, context)
        self._transfers.load(
            job_metadata.job_id,
            [self._key(terms, key) for key in keys],
            self._rows(job_metadata.chunk_ids),
            until_s=time.monotonic() + max(terms.wait_s, WAIT_MIN_S),
        )
        self._thread_s += time.perf_counter() - began_s

    def submit_store(self, job_metadata: Any) -> None:
        """Begin to store."""
        began_s = time.perf_counter()
        terms = _terms(job_metadata.req_context)
        self._stores[job_metadata.job_id] = list(job_metadata.keys)
        keys = [self._key(terms, key) for key in job_metadata.keys]
        self._transfers.store(job_metadata.job_id, keys, self._rows(job_metadata.chunk_ids))
        self._thread_s += time.perf_counter() - began_s

    def get_finished_jobs(self) -> Iterable[Any]:
        """The jobs that ended; blocks that did not arrive are not looked up again for their request."""
        began_s = time.perf_counter()
        results = []
        for ended in self._transfers.finished():
            arrived: Collection[bytes] | None = None
            if ended.kind is Kind.STORE:
                self._note_kept(self._stores.pop(ended.job_id), ended.good)
            else:
                keys, context = self._loads.pop(ended.job_id)
                self._note_kept(keys, ended.good)
                if not ended.is_whole:
                    arrived = tuple(key for key, good in zip(keys, ended.good, strict=True) if good) or None
                    lost = [key for key, good in zip(keys, ended.good, strict=True) if not good]
                    _forget(context, lost)
            results.append(
                JobResult(
                    job_id=ended.job_id,
                    success=ended.is_whole,
                    successful_keys=arrived,
                    transfer_time=ended.seconds,
                    transfer_bytes=ended.size_bytes,
                )
            )
        self._thread_s += time.perf_counter() - began_s
        return results

    def take_events(self) -> Iterable[Any]:
        """What is in Redis for certain: stored, loaded, or found there when it was to be stored.

        vLLM makes KV events of these; a removal is never among them, for Redis evicts without a word.
        """
        kept, self._kept = self._kept, []
        if kept:
            yield OffloadingEvent(keys=kept, medium=self.medium, removed=False, locality=self.locality)

    def _note_kept(self, keys: Sequence[bytes], good: Sequence[bool]) -> None:
        if self._tells:
            self._kept += [key for key, is_good in zip(keys, good, strict=True) if is_good]

    def drain_jobs(self) -> None:
        """Wait for every job; vLLM asks for it before it reuses the memory."""
        self._transfers.drain()

    def shutdown(self) -> None:
        """End the threads and let go of the memory, which cannot be unmapped before."""
        self._transfers.close()
        self._view.release()

    @classmethod
    def build_metric_definitions(cls, extra_config: dict[str, Any]) -> dict[str, Any]:
        """The tier's metrics, at the replica's /metrics."""
        del extra_config
        made: dict[str, Any] = {
            name: OffloadingCounterMetadata(documentation=text, labelnames=labels)
            for name, (text, labels) in stats.COUNTERS.items()
        }
        for name, text in stats.GAUGES.items():
            made[name] = OffloadingGaugeMetadata(documentation=text)
        return made

    def get_stats(self) -> Any:
        """What happened since the last call."""
        made = OffloadingConnectorStats()
        counts = self._transfers.counts()
        for name, labels, amount in stats.observations(
            counts,
            hits=self._hits,
            misses=self._misses,
            scheduler_s=self._thread_s,
            is_first=not self._has_told,
        ):
            made.increase_counter(name, amount, labels)
        self._has_told = True
        self._hits = self._misses = 0
        self._thread_s = 0.0
        if not made.is_empty():
            made.set_gauge(stats.IS_UP, float(self._transfers.is_up))
        return made

    def _key(self, terms: RequestTerms, key: bytes) -> bytes:
        return block_key(self._fingerprint, terms.tag, bytes(key))

    def _rows(self, chunk_ids: Iterable[int]) -> list[memoryview]:
        starts = (int(chunk) * self._row_bytes for chunk in chunk_ids)
        return [self._view[start : start + self._payload_bytes] for start in starts]


def _terms(context: Any) -> RequestTerms:
    terms = context.get_state(RequestTerms)
    return terms if isinstance(terms, RequestTerms) else RequestTerms.of(context.kv_transfer_params)


def _forget(context: Any, lost: Iterable[bytes]) -> None:
    """Without this, the next lookup would say HIT again, and the request would wait for ever."""
    terms = _terms(context)
    ends = [context.get_offload_key_position(key) for key in lost]
    terms.known_tokens = min([terms.known_tokens, *(end - 1 if end is not None else 0 for end in ends)])
    context.set_state(terms)


def _fields(config: Any, payload_bytes: int, content: str) -> dict[str, Any]:
    import vllm
    from vllm.platforms import current_platform

    return {
        "value": value.VERSION,
        "content": content,
        "vllm": vllm.__version__.partition("+")[0],
        "platform": current_platform.device_type,
        "isa": _isa(current_platform.device_type),
        "dtype": config.model.dtype,
        "layout": config.kv_cache_layout,
        "canonical": config.canonical_layout,
        "replicated": config.replicated_layout,
        "tp": config.parallel.tp_size,
        "pp": config.parallel.pp_size,
        "pcp": config.parallel.pcp_size,
        "dcp": config.parallel.dcp_size,
        "world": config.parallel.world_size,
        "hash_tokens": config.cache.tokens_per_hash,
        "blocks_per_chunk": config.cache.blocks_per_chunk,
        "groups": [[group.tokens_per_block, len(group.layer_names)] for group in config.groups],
        "payload": payload_bytes,
        # The chain of block hashes begins with it.
        "seed": read_environment().variables.get("PYTHONHASHSEED", ""),
    }


def _isa(device_type: str) -> str:
    """What decides how CPU attention lays its cache out; elsewhere the card's name, since kernels round differently."""
    import torch

    if device_type != "cpu":
        return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else device_type
    flags = {
        "amx": "_is_amx_tile_supported",
        "avx512bf16": "_is_avx512_bf16_supported",
        "avx512": "_is_avx512_supported",
    }
    has = [name for name, probe in flags.items() if getattr(torch.cpu, probe, lambda: False)()]
    return "+".join(has) or "plain"
