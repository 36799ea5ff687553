"""The tier as the replica's API process has it: the engine's arguments for it, and every request's terms.

vLLM is used through functions that are imported where they are called. What must not live here: Redis (asking.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import secrets
import tempfile
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cluster.core.tier.keys import tag_of
from cluster.core.tier.salt import engine_salt, tenant_salt
from cluster.engine.plan import Accelerator, ReplicaPlan
from cluster.engine.tier import stats
from cluster.engine.tier.asking import Asking
from cluster.engine.tier.connection import RedisServer
from cluster.engine.tier.fingerprint import content_digest
from cluster.engine.tier.handshake import TierFacts
from cluster.shared_memory import sweep_named

log = logging.getLogger("longreach.tier")
ENGINE_ID = "longreach-"
"""How our engines' names begin; vLLM names the host's tier in /dev/shm after the engine."""
REGION = "vllm_offload_"
REGION_AGE_S = 60.0
"""A region is mapped milliseconds after it was made; what is this old and mapped by nobody was left behind."""


class TierLink:
    """One engine's tier, before the engine starts and after."""

    def __init__(self, plan: ReplicaPlan) -> None:
        assert plan.redis_tier is not None
        self._plan = plan
        self._tier = plan.redis_tier
        self._server = RedisServer(
            url=self._tier.url,
            user=self._tier.user,
            password_env=self._tier.password_env,
            password_file=self._tier.password_file,
            ca_file=self._tier.ca_file,
        )
        self._folder = tempfile.TemporaryDirectory(prefix="longreach-tier-")
        self._facts_path = Path(self._folder.name) / "facts.json"
        self._adapters: dict[str, str] = {}
        self._block_tokens = 0
        self._hasher: Callable[[Any], list[bytes]] | None = None
        self._is_busy = False
        self.asking: Asking | None = None
        """None until the engine runs."""
        self.totals: dict[str, float] = {}
        """The tier's counters since the start, by their names in stats.py."""

    async def prepare(self) -> dict[str, Any]:
        """Clear away what dead engines left, and give vLLM's `kv_transfer_config`. Nothing in it is secret."""
        removed = await asyncio.to_thread(sweep_named, f"{REGION}{ENGINE_ID}", older_than_s=REGION_AGE_S)
        if removed:
            log.warning("removed %d host tiers that dead engines left in shared memory", len(removed))
        content = await asyncio.to_thread(content_digest, Path(self._plan.folder))
        for name, path in self._plan.lora:
            self._adapters[name] = await asyncio.to_thread(content_digest, Path(path))
        on_cpu = self._plan.accelerator is Accelerator.CPU
        return {
            "kv_connector": "OffloadingConnector",
            "kv_role": "kv_both",
            # The default fails a request whose blocks could not be loaded.
            "kv_load_failure_policy": "recompute",
            "engine_id": f"{ENGINE_ID}{secrets.token_hex(8)}",
            "kv_connector_extra_config": {
                "spec_name": "CpuTieringOffloadingSpec" if on_cpu else "TieringOffloadingSpec",
                "spec_module_path": "cluster.engine.tier.spec",
                "cpu_bytes_to_use": self._tier.host_bytes,
                "blocks_per_chunk": 1,
                # Answers are part of the next turn's prompt.
                "offload_prompt_only": False,
                "self_describing_kv_events": True,
                "secondary_tiers": [
                    {
                        "type": "RedisTier",
                        "module_path": "cluster.engine.tier.manager",
                        "server": self._server.as_mapping(),
                        "ttl_s": self._tier.ttl_s,
                        "content": content,
                        "facts_path": str(self._facts_path),
                    }
                ],
            },
        }

    async def connect(self) -> None:
        """The engine runs: learn about its tier, and measure Redis.

        Raises:
            OSError: the engine left no facts, so it has no tier.
        """
        from vllm.utils.hashing import sha256_cbor
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash

        facts = TierFacts.read(self._facts_path)
        init_none_hash(sha256_cbor)
        self._block_tokens = facts.block_tokens
        self._hasher = get_request_block_hasher(facts.block_tokens, sha256_cbor)
        asking = Asking(facts, self._server, ttl_s=self._tier.ttl_s)
        await asking.start()
        self.asking = asking
        log.info("KV tier in Redis: fingerprint %s, %s", facts.fingerprint, asking.break_even.state())

    def close(self) -> None:
        """The engine is gone."""
        if self.asking is not None:
            self.asking.close()
        self._folder.cleanup()

    def observe(self, statistics: Any) -> None:
        """Take in vLLM's SchedulerStats of one step."""
        self._is_busy = statistics.num_running_reqs > 0
        for name in stats.COUNTERS if statistics.kv_connector_stats else ():
            self.totals[name] = self.totals.get(name, 0.0) + stats.total(statistics.kv_connector_stats, name)
        if self.asking is not None:
            self.asking.observe(statistics.kv_connector_stats, is_busy=self._is_busy)

    def salted(self, prompt: Any, lora_request: Any) -> Any:
        """VLLM's engine input, with the content of the request's adapter in its salt."""
        adapter = None if lora_request is None else self._adapters.get(lora_request.lora_name)
        if adapter is None or not isinstance(prompt, dict):
            return prompt
        return {**prompt, "cache_salt": engine_salt(prompt.get("cache_salt"), adapter)}

    async def outputs(
        self, generate: Callable[[Any], AsyncGenerator[Any, None]], prompt: Any, params: Any, lora_request: Any
    ) -> AsyncGenerator[Any, None]:
        """The outputs of a request, after it was given its terms.

        Args:
            generate: makes the engine's outputs from sampling parameters.
            prompt: vLLM's engine input, as `salted` gave it back.
            params: its sampling parameters, which may be another request's as well.
            lora_request: its adapter.
        """
        if self.asking is not None:
            params = await self._with_terms(self.asking, prompt, params, lora_request)
        is_first = True
        async with contextlib.aclosing(generate(params)) as outputs:
            async for output in outputs:
                if is_first:
                    is_first = False
                    self._time_prefill(output)
                yield output

    async def _with_terms(self, asking: Asking, prompt: Any, params: Any, lora_request: Any) -> Any:
        is_text = isinstance(prompt, dict) and prompt.get("type", "token") == "token"
        ids = prompt.get("prompt_token_ids") if is_text else None
        salt = prompt.get("cache_salt") if is_text else None
        adapter = None if lora_request is None else self._adapters.get(lora_request.lora_name)
        # A request for its prompt's probabilities computes all of it.
        readable = ids and params.prompt_logprobs is None and (lora_request is None or adapter is not None)
        hashes = PromptHashes(self._hasher, self._block_tokens, ids or (), salt, lora_request) if readable else None
        terms = await asking.terms(
            prompt_tokens=len(ids or ()), tag=tag_of(tenant_salt(salt), adapter), hashes=hashes, is_busy=self._is_busy
        )
        made = copy.copy(params)
        extra = dict(params.extra_args or {})
        extra["kv_transfer_params"] = {**(extra.get("kv_transfer_params") or {}), **terms.parameter()}
        made.extra_args = extra
        return made

    def _time_prefill(self, output: Any) -> None:
        times = output.metrics
        if self.asking is None or times is None or not times.scheduled_ts or not times.first_token_ts:
            return
        tokens = len(output.prompt_token_ids or ())
        computed = tokens - (output.num_cached_tokens or 0)
        # The rest of a long cached prompt costs what no prompt of its length does.
        if 2 * computed >= tokens:
            self.asking.prefilled(computed, times.first_token_ts - times.scheduled_ts)


class PromptHashes:
    """The hashes of a prompt's blocks, made by vLLM's own function as far as they are asked for."""

    def __init__(self, hasher: Any, block_tokens: int, ids: Sequence[int], salt: str | None, lora_request: Any) -> None:
        self._hasher = hasher
        self._block_tokens = block_tokens
        # What vLLM's function reads of a request; tests/contract holds it to real ones.
        self._request = SimpleNamespace(
            all_token_ids=ids,
            num_tokens=0,
            block_hashes=[],
            mm_features=[],
            lora_request=lora_request,
            cache_salt=salt,
            prompt_embeds=None,
        )

    def upto(self, blocks: int) -> Sequence[bytes]:
        """The first so many, or all there are."""
        request = self._request
        request.num_tokens = min(blocks * self._block_tokens, len(request.all_token_ids))
        request.block_hashes.extend(self._hasher(request))
        hashes: list[bytes] = request.block_hashes
        return hashes[:blocks]
