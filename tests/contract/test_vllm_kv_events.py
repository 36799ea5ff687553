"""What residency takes from the pinned vLLM: its KV cache events, their wire form, and its own block manager.

The manager of blocks is the real one, without an engine: what it says it has cached is what the tree has to predict.
vLLM is imported, never started. A failure after a new pin means: look at the module named in the test.
"""

from __future__ import annotations

import inspect
import random
from array import array
from typing import Any

import msgspec
import pytest

from cluster.core.lease import ReplicaId
from cluster.core.prefix import PrefixChain, PrefixFacts, PrefixIndex
from cluster.engine.arguments import engine_environment
from cluster.engine.checked import _note
from cluster.engine.residency import events
from cluster.engine.residency.events import apply_batch
from cluster.engine.residency.seen import SeenPrompts
from cluster.engine.residency.tree import BlockTree
from tests.residency import Mirror, entries, paths, root
from tests.unit.engine.plans import plan

pytest.importorskip("vllm", reason="vLLM is not installed in this environment")

BLOCK = 4
CHUNK = 8
LETTERS: list[bytes | None] = [bytes([97 + token]) * 2 for token in range(26)]
"""Two bytes a token: a chunk is a block."""
REPLICA = ReplicaId("r1")
FACTS = PrefixFacts(model_digest="m", chunk_bytes=CHUNK, block_tokens=BLOCK, adapters={})


@pytest.fixture(autouse=True)
def _whole_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES"
    monkeypatch.setenv(name, engine_environment(plan())[name])


def manager(blocks: int) -> Any:
    """VLLM's block manager for one full-attention layer."""
    import torch
    from vllm.utils.hashing import sha256_cbor
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.core.kv_cache_utils import init_none_hash
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec

    init_none_hash(sha256_cbor)
    spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=8, dtype=torch.float32)
    config = KVCacheConfig(num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)])
    return KVCacheManager(
        config,
        max_model_len=1024,
        scheduler_block_size=BLOCK,
        hash_block_size=BLOCK,
        enable_caching=True,
        enable_kv_cache_events=True,
    )


def request(name: str, tokens: list[int], *, salt: str | None = None, adapter: str | None = None) -> Any:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest
    from vllm.utils.hashing import sha256_cbor
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher
    from vllm.v1.request import Request

    lora = LoRARequest(lora_name=adapter, lora_int_id=1, lora_path="/adapters/x") if adapter else None
    return Request(
        name,
        tokens,
        SamplingParams(max_tokens=1),
        None,
        cache_salt=salt,
        lora_request=lora,
        block_hasher=get_request_block_hasher(BLOCK, sha256_cbor),
    )


def wire(taken: list[Any]) -> Any:
    """Events as they come out at this end."""
    from vllm.distributed.kv_events import KVEventBatch

    batch = KVEventBatch(ts=1.0, events=taken, data_parallel_rank=0)
    return msgspec.msgpack.Decoder(events.Batch).decode(msgspec.msgpack.Encoder().encode(batch))


def tree() -> BlockTree:
    return BlockTree(root_of=root, token_bytes=LETTERS, chunk_bytes=CHUNK, block_tokens=BLOCK)


def text(tokens: list[int]) -> bytes:
    return b"".join(LETTERS[token] or b"" for token in tokens)


class Engine:
    """Requests through vLLM's block manager, and its events through the tree."""

    def __init__(self, blocks: int) -> None:
        self.blocks = manager(blocks)
        self.tree = tree()
        self.mirror = Mirror()
        self.running: list[Any] = []

    def flush(self) -> None:
        apply_batch(self.tree, wire(self.blocks.take_events()))
        self.mirror.take(self.tree)

    def predicted(self, made: Any, salt: str | None, adapter: str | None) -> int:
        start = root(adapter, salt)
        assert start is not None
        index = PrefixIndex()
        index.snapshot(REPLICA, 1, 0, list(self.mirror.table.items()))
        chain = PrefixChain(start, text(list(made.prompt_token_ids)), CHUNK)
        found = index.resident(chain, [REPLICA], facts=FACTS, prompt_tokens=len(made.prompt_token_ids))
        return found.get(REPLICA, 0)

    def begin(self, made: Any) -> int | None:
        """Tokens found in the cache; None where there is no room."""
        computed, count, _ = self.blocks.get_computed_blocks(made)
        slots = self.blocks.allocate_slots(made, made.num_tokens - count, count, computed)
        if slots is None:
            return None
        made.num_computed_tokens = made.num_tokens
        self.running.append(made)
        return int(count)

    def generate(self, made: Any, token: int) -> None:
        made.append_output_token_ids(token)
        if self.blocks.allocate_slots(made, 1) is None:
            self.end(made)
        else:
            made.num_computed_tokens = made.num_tokens

    def end(self, made: Any) -> None:
        self.blocks.free(made)
        self.running.remove(made)


@pytest.mark.parametrize("seed", range(12))
def test_the_tree_predicts_what_vllms_block_manager_finds(seed: int) -> None:
    """cluster/engine/residency/tree.py: duplicates, eviction, prompts that grow, under pressure; no block of error."""
    chance = random.Random(seed)
    engine = Engine(blocks=chance.choice([12, 40, 120]))
    heads = [[chance.randrange(26) for _ in range(chance.randrange(1, 24))] for _ in range(3)]
    hits = 0
    for number in range(250):
        salt, adapter = chance.choice([(None, None), (None, None), ("acme", None), (None, "sql"), ("acme", "sql")])
        tokens = [*chance.choice(heads), *(chance.randrange(26) for _ in range(chance.randrange(0, 20)))]
        made = request(f"r{number}", tokens, salt=salt, adapter=adapter)
        engine.tree.prove(paths(tokens, BLOCK))
        if chance.random() < 0.7:  # else the events of several requests come together, as from one step
            engine.flush()
            predicted = engine.predicted(made, salt, adapter)
            found = engine.begin(made)
            if found is not None:
                assert predicted == found
                hits += found > 0
        else:
            engine.begin(made)
        while engine.running and chance.random() < 0.6:
            engine.end(chance.choice(engine.running))
        if engine.running and chance.random() < 0.5:
            grown = chance.choice(engine.running)
            for _ in range(chance.randrange(1, 9)):
                if grown in engine.running:
                    engine.generate(grown, chance.randrange(26))
            heads[chance.randrange(3)] = list(grown.all_token_ids)[:80]
        engine.flush()
        for doubt in engine.tree.take_doubts(1000):  # every token is a word here: all are canonical
            engine.tree.judge(doubt.block, doubt.starts_at + len(doubt.tokens))
        engine.mirror.take(engine.tree)
        assert engine.mirror.table == entries(engine.tree)
        assert len(engine.tree) == len(engine.blocks.block_pool.cached_block_hash_to_block)
    assert hits > 0
    assert engine.tree.orphans == 0
    for made in list(engine.running):
        engine.end(made)
    assert engine.blocks.reset_prefix_cache()
    engine.flush()
    assert (len(engine.tree), engine.mirror.table) == (0, {})


def test_equal_prompts_of_one_step_are_told_twice_and_lost_twice() -> None:
    """cluster/engine/residency/tree.py counts copies: vLLM does not share blocks that are made at the same time."""
    blocks = manager(40)
    made = tree()
    tokens = [1] * BLOCK + [2] * BLOCK
    made.prove(paths(tokens, BLOCK))
    twins = [request(name, [*tokens, 3]) for name in ("a", "b")]
    found = [blocks.get_computed_blocks(twin) for twin in twins]
    for twin, (computed, count, _) in zip(twins, found, strict=True):
        assert count == 0
        blocks.allocate_slots(twin, twin.num_tokens, 0, computed)
    batch = wire(blocks.take_events())
    assert [len(event.block_hashes) for event in batch.events] == [2, 2]
    assert batch.events[0].block_hashes == batch.events[1].block_hashes
    apply_batch(made, batch)
    before = entries(made)
    assert before == expected_here(tokens)
    for twin in twins:
        blocks.free(twin)
    hashes = batch.events[0].block_hashes
    ids = [block.block_id for block in blocks.block_pool.blocks if block.block_hash is not None]
    assert len(ids) == 4
    blocks.evict_blocks(set(ids[:2]))
    first = wire(blocks.take_events())
    assert [event.block_hashes for event in first.events] == [[hashes[0]], [hashes[1]]]
    apply_batch(made, first)
    assert entries(made) == before
    blocks.evict_blocks(set(ids[2:]))
    apply_batch(made, wire(blocks.take_events()))
    assert entries(made) == {}


def expected_here(tokens: list[int], *, salt: str | None = None, adapter: str | None = None) -> dict[int, int]:
    start = root(adapter, salt)
    assert start is not None
    chain = PrefixChain(start, text(tokens), CHUNK)
    return {chain.key(place): (place + 1) * BLOCK for place in range(len(chain))}


@pytest.mark.parametrize("salt", [None, "acme"])
@pytest.mark.parametrize("adapter", [None, "sql"])
def test_salt_and_adapter_are_in_the_events(salt: str | None, adapter: str | None) -> None:
    """cluster/engine/residency/events.py: untagged extra keys, the adapter's name before the salt, in block 0."""
    blocks = manager(40)
    made = tree()
    tokens = [1] * BLOCK + [2] * BLOCK
    made.prove(paths(tokens, BLOCK))
    one = request("a", [*tokens, 3], salt=salt, adapter=adapter)
    blocks.allocate_slots(one, one.num_tokens)
    batch = wire(blocks.take_events())
    (event,) = batch.events
    first = [*([adapter] if adapter else []), *([salt] if salt else [])]
    later = [adapter] if adapter else None
    assert event.extra_keys == ([first or None, later] if first or later else [None, None])
    assert (event.lora_name, event.parent_block_hash, event.medium) == (adapter, None, "GPU")
    assert (event.group_idx, event.kv_cache_spec_kind, event.block_size) == (0, "full_attention", BLOCK)
    assert event.token_ids == tokens
    assert all(isinstance(name, bytes) and len(name) == 32 for name in event.block_hashes)
    apply_batch(made, batch)
    assert entries(made) == expected_here(tokens, salt=salt, adapter=adapter)


def test_fields_of_the_events() -> None:
    """cluster/engine/residency/events.py mirrors what it reads of them."""
    from vllm.distributed import kv_events

    for own in (events.BlockStored, events.BlockRemoved, events.AllBlocksCleared):
        theirs = getattr(kv_events, own.__name__)
        assert set(own.__struct_fields__) <= set(theirs.__struct_fields__)
        assert theirs.__struct_config__.tag == own.__struct_config__.tag == own.__name__
    assert kv_events.KVEventBatch.__struct_fields__[:2] == events.Batch.__struct_fields__
    assert kv_events.KVEventBatch.__struct_config__.array_like
    batch = wire([kv_events.AllBlocksCleared(), kv_events.BlockRemoved(block_hashes=[b"x"], medium="CPU")])
    assert batch.events == [events.AllBlocksCleared(), events.BlockRemoved(block_hashes=[b"x"], medium="CPU")]
    assert kv_events.MEDIUM_GPU == events.DEVICE


def test_kinds_of_caches() -> None:
    """cluster/engine/residency/events.py and opening.py know them by name."""
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.kv_cache_interface import KVCacheSpecKind

    assert events.FULL_ATTENTION - {None} <= {kind.value for kind in KVCacheSpecKind}
    source = inspect.getsource(EngineCore.get_kv_cache_group_metadata)
    assert all(f'"{name}"' in source for name in ("kind", "block_size", "sliding_window"))


def test_prompts_made_of_text_are_told_from_others() -> None:
    """cluster/engine/vllm_engine.py, `_note`: the engine input's fields."""
    from vllm.inputs import TokensPrompt
    from vllm.renderers.base import BaseRenderer

    seen = SeenPrompts()
    _note(seen, {"type": "token", "prompt_token_ids": [1, 2], "prompt": "ab"})
    _note(seen, {"type": "token", "prompt_token_ids": [1, 2]})
    _note(seen, "ab")
    assert seen.take() == ([1, 2], "ab")
    assert seen.take() is None
    assert {"prompt_token_ids", "prompt", "cache_salt"} <= TokensPrompt.__annotations__.keys()
    assert 'engine_input["prompt"] = prompt_text' in inspect.getsource(BaseRenderer)


def test_paths_of_prompts_are_those_of_blocks() -> None:
    """cluster/engine/residency/tree.py and service.py name a prompt's blocks alike."""
    made = tree()
    tokens = [1, 2, 3, 4, 5, 6, 7, 8]
    made.stored(b"a", None, tokens[:4])
    made.stored(b"b", b"a", array("I", tokens[4:]))
    assert entries(made) == {}
    made.prove(paths(tokens, BLOCK))
    assert len(entries(made)) == 2
