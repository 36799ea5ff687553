"""An engine's half of the KV tier without the engine: vLLM's own manager and host tier, our tier and workers.

What must not live here: tests (tests/contract/test_tier_seams.py).
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from pathlib import Path
from typing import Any

from cluster.engine.tier.handshake import RequestTerms
from cluster.engine.tier.link import ENGINE_ID

PAGE = 5_000
TENSORS = 3
BLOCK_TOKENS = 16
BLOCKS = 24
PATIENCE_S = 20.0


class Side:
    """One engine's half of everything: its KV cache, its workers, its manager, all in this process."""

    def __init__(self, port: int, folder: Path, *, ranks: int = 2, chunks: int = 64) -> None:
        import torch
        from vllm.v1.kv_offload.base import CanonicalKVCacheRef, CanonicalKVCaches, CanonicalKVCacheTensor

        self.facts_path = folder / f"facts-{secrets.token_hex(4)}.json"
        engine_id = f"{ENGINE_ID}test-{secrets.token_hex(4)}"
        make = [self._config(rank, ranks, engine_id, port, chunks) for rank in range(ranks)]
        self.caches = [torch.randint(-128, 127, (TENSORS, BLOCKS, PAGE), dtype=torch.int8) for _ in range(ranks)]
        from cluster.engine.tier.spec import CpuTieringOffloadingSpec

        self.spec = CpuTieringOffloadingSpec(make[0])
        self.manager = self.spec.get_manager()
        self.workers = []
        for config, cache in zip(make, self.caches, strict=True):
            tensors = [CanonicalKVCacheTensor(tensor=each, page_size_bytes=PAGE) for each in cache]
            refs = [CanonicalKVCacheRef(tensor_idx=at, page_size_bytes=PAGE) for at in range(TENSORS)]
            spec = CpuTieringOffloadingSpec(config)
            self.workers.append(spec.get_worker(CanonicalKVCaches(tensors=tensors, group_data_refs=[refs])))

    def _config(self, rank: int, ranks: int, engine_id: str, port: int, chunks: int) -> Any:
        from vllm.v1.kv_offload import config

        parallel = {field.name: 1 for field in dataclasses.fields(config.OffloadingParallelConfig)}
        parallel |= {"rank": rank, "world_size": ranks, "tp_size": ranks, "data_parallel_index": 0}
        parallel["is_parallelism_agnostic"] = False
        tier = {
            "type": "RedisTier",
            "module_path": "cluster.engine.tier.manager",
            "server": {"url": f"redis://127.0.0.1:{port}"},
            "ttl_s": 100,
            "content": "c",
            "facts_path": str(self.facts_path),
        }
        return config.OffloadingConfig(
            groups=(config.OffloadingGroupConfig(tokens_per_block=BLOCK_TOKENS, layer_names=("a", "b"), group_id=0),),
            worker_kv_bytes_per_block=PAGE * TENSORS,
            enable_kv_cache_events=False,
            extra_config={"cpu_bytes_to_use": chunks * 8 * 4096 * ranks, "secondary_tiers": [tier]},
            engine_id=engine_id,
            model=config.OffloadingModelConfig(name="m", dtype="float32"),
            cache=config.OffloadingCacheConfig(tokens_per_hash=BLOCK_TOKENS, blocks_per_chunk=1),
            parallel=config.OffloadingParallelConfig(**parallel),
        )

    def request(self, name: str, keys: list[Any], terms: RequestTerms) -> Any:
        from vllm.v1.kv_offload.base import ReqContext

        context = ReqContext(req_id=name, kv_transfer_params=terms.parameter())
        for at, key in enumerate(keys):
            context.set_offload_key_position(key, (at + 1) * BLOCK_TOKENS)
        self.manager.on_new_request(context)
        return context

    def step(self) -> None:
        from vllm.v1.kv_offload.base import ScheduleEndContext

        self.manager.on_schedule_end(ScheduleEndContext(new_req_ids=(), preempted_req_ids=()))

    def settle(self) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while self.manager.has_pending_work():
            assert time.monotonic() < until_s, "a job never ended"
            self.step()
            time.sleep(0.001)

    def store(self, keys: list[Any], context: Any) -> None:
        prepared = self.manager.prepare_store(keys, context)
        assert prepared is not None
        assert prepared.keys_to_store == keys
        for worker in self.workers:
            worker.submit_store(1, self._blocks(len(keys)), prepared.store_spec)
            assert [done.success for done in worker.get_finished()] == [True]
        self.manager.complete_store(keys, context)
        self.settle()

    def fetch(self, keys: list[Any], context: Any) -> int:
        """As the scheduler does: ask for each key until the first miss, until no answer is pending; then load."""
        from vllm.v1.kv_offload.base import LookupResult

        until_s = time.monotonic() + PATIENCE_S
        while True:
            hits, is_pending = 0, False
            for key in keys:
                answer = self.manager.lookup(key, context)
                assert answer is not LookupResult.RETRY
                if answer is LookupResult.MISS:
                    break
                hits += 1
                is_pending |= answer is LookupResult.HIT_PENDING
            if not is_pending:
                break
            assert time.monotonic() < until_s, "a lookup never ended"
            self.step()
        if hits:
            loaded = self.manager.prepare_load(keys[:hits], context)
            for worker in self.workers:
                worker.submit_load(2, loaded, self._blocks(hits))
                worker.get_finished()
            self.manager.complete_load(keys[:hits], context)
        return hits

    def _blocks(self, count: int) -> Any:
        """The engine's blocks, in an order of its own."""
        from vllm.v1.kv_offload.base import GPULoadStoreSpec

        return GPULoadStoreSpec([BLOCKS - 1 - at for at in range(count)], [count], [0])

    def close(self) -> None:
        for worker in self.workers:
            worker.shutdown()
        self.manager.shutdown()
