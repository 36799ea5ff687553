"""vLLM's tiered offloading on the CPU platform, where it has only been made for accelerators.

"Device" and host are the same memory there, so a transfer is a copy, made between two steps of the engine. On CUDA the
stock specification is used. What must not live here: Redis.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from vllm.v1.kv_offload.base import OffloadingWorker, TransferResult
from vllm.v1.kv_offload.cpu.shared_offload_region import SharedOffloadRegion
from vllm.v1.kv_offload.tiering.spec import TieringOffloadingSpec


class CopyWorker(OffloadingWorker):  # type: ignore[misc]
    """Copies blocks between the engine's KV cache and its part of the host's tier; every transfer is done at once.

    Args:
        kv_caches: vLLM's view of the engine's KV cache.
        blocks_per_chunk: how many of its blocks are one chunk of the host's tier.
        region: the host's tier; owned from here on.
    """

    def __init__(self, kv_caches: Any, blocks_per_chunk: int, region: Any) -> None:
        self._region = region
        self._blocks_per_chunk = blocks_per_chunk
        self._done: list[Any] = []
        self._pairs: list[tuple[Any, Any]] = []
        """For each tensor: (blocks, page) of the engine, (chunks, blocks in a chunk, page) of the host."""
        for cache in kv_caches.tensors:
            page_bytes = cache.page_size_bytes
            blocks = cache.tensor.view(torch.int8).view(-1, page_bytes)
            chunks = region.create_next_worker_view(page_bytes * blocks_per_chunk)
            self._pairs.append((blocks, chunks.unflatten(1, (blocks_per_chunk, page_bytes))))
        self._tensors_of_group = [sorted({ref.tensor_idx for ref in refs}) for refs in kv_caches.group_data_refs]

    def submit_store(self, job_id: int, src_spec: Any, dst_spec: Any) -> bool:
        """From the engine to the host."""
        return self._copy(job_id, src_spec, dst_spec, is_store=True)

    def submit_load(self, job_id: int, src_spec: Any, dst_spec: Any) -> bool:
        """From the host to the engine."""
        return self._copy(job_id, dst_spec, src_spec, is_store=False)

    def get_finished(self) -> list[Any]:
        """Every transfer since the last call."""
        done, self._done = self._done, []
        return done

    def wait(self, job_ids: set[int]) -> None:
        """Nothing is ever under way."""

    def shutdown(self) -> None:
        """Let go of the memory."""
        self._pairs.clear()
        self._region.cleanup()

    def _copy(self, job_id: int, engine_spec: Any, host_spec: Any, *, is_store: bool) -> bool:
        began_s = time.monotonic()
        size_bytes = block_at = chunk_at = 0
        for group, (count, first) in enumerate(
            zip(engine_spec.group_sizes, engine_spec.block_indices, strict=True),
        ):
            if not count:
                continue
            blocks = torch.from_numpy(engine_spec.block_ids[block_at : block_at + count].astype(np.int64))
            block_at += count
            # A group's first block may lie in the middle of a chunk.
            index = np.arange(first, first + count)
            chunk_of = index // self._blocks_per_chunk - first // self._blocks_per_chunk
            chunks = torch.from_numpy(host_spec.block_ids[chunk_at + chunk_of].astype(np.int64))
            chunk_at += int(chunk_of[-1]) + 1
            inside = torch.from_numpy(index % self._blocks_per_chunk)
            for tensor in self._tensors_of_group[group]:
                engine, host = self._pairs[tensor]
                if is_store:
                    host[chunks, inside] = engine[blocks]
                else:
                    engine[blocks] = host[chunks, inside]
                size_bytes += count * engine.shape[1]
        result = TransferResult(
            job_id=job_id, success=True, transfer_size=size_bytes, transfer_time=time.monotonic() - began_s
        )
        self._done.append(result)
        return True


class CpuTieringOffloadingSpec(TieringOffloadingSpec):  # type: ignore[misc]
    """The stock specification with a worker for the CPU platform."""

    def create_worker(self, kv_caches: Any) -> Any:
        """The worker of this rank.

        Raises:
            ValueError: the canonical layout was asked for.
        """
        if self.config.canonical_layout:
            raise ValueError("canonical_layout is for accelerators: leave it out on CPU")
        region = SharedOffloadRegion(
            engine_id=self._engine_id,
            num_chunks=self.num_chunks,
            rank=0 if self.replicated_layout else self.config.parallel.rank,
            kv_bytes_per_chunk=self.kv_bytes_per_chunk,
            cpu_page_size=self.cpu_page_size_per_worker,
        )
        try:
            return CopyWorker(kv_caches, self.blocks_per_chunk, region)
        except Exception:
            region.cleanup()
            raise

    def get_worker(self, kv_caches: Any) -> Any:
        """The worker; the stock method refuses this platform."""
        made = self._worker or self.create_worker(kv_caches)
        self._worker: Any = made
        return made
