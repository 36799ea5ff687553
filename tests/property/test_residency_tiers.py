"""Blocks behind the engine's own cache: what the host's memory has counts as resident, what Redis has is told."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.core.prefix import KeptPrefixes, PrefixChain, chain_root
from cluster.engine.residency.kept import WAIT_S, KeptBlocks
from tests.residency import BLOCK_TOKENS, CHUNK_BYTES, Mirror, entries, expected, paths, tree

Name = tuple[int, ...]
RUN: Name = (0, 1, 2, 0, 1, 2, 0, 1)
BLOCKS = [RUN[:end] for end in range(BLOCK_TOKENS, len(RUN) + 1, BLOCK_TOKENS)]
LIFE_S = 1000.0
FINGERPRINT = "f"


def name_of(tokens: Name) -> bytes:
    return repr(tokens).encode()


def stored(made: Any, tokens: Name) -> None:
    parent = tokens[:-BLOCK_TOKENS]
    made.stored(name_of(tokens), name_of(parent) if parent else None, tokens[-BLOCK_TOKENS:])


@given(steps=st.lists(st.tuples(st.sampled_from("SRHU"), st.sampled_from(BLOCKS)), max_size=40))
def test_a_block_counts_while_the_engine_or_the_host_has_it(steps: list[tuple[str, Name]]) -> None:
    made, mirror = tree(), Mirror()
    made.prove(paths(RUN))
    copies: Counter[Name] = Counter()
    hosted: set[Name] = set()
    known: set[Name] = set()
    for step, block in steps:
        if step == "S":
            stored(made, block)
            copies[block] += 1
            known.add(block)
        elif step == "R":
            made.removed(name_of(block))
            copies[block] = max(0, copies[block] - 1)
        elif step == "H":
            made.hosted(name_of(block))
            hosted.add(block)
        else:
            made.unhosted(name_of(block))
            hosted.discard(block)
        # What is in neither is forgotten, and the host's copy alone does not say what is in it.
        known -= {each for each in known if not copies[each] and each not in hosted}
        mirror.take(made)
        run = 0
        while run < len(BLOCKS) and BLOCKS[run] in known:
            run += 1
        # A block that came before its parent was known hangs in the air until it comes again.
        assert set(entries(made)) <= set(expected(BLOCKS[:run]))
        assert mirror.table == entries(made)
        there = 0
        while there < len(BLOCKS) and (BLOCKS[there] in known or BLOCKS[there] in hosted):
            there += 1
        assert made.leading(map(name_of, BLOCKS)) == there


def test_an_evicted_block_stays_resident_in_the_host() -> None:
    made = tree()
    made.prove(paths(RUN))
    for block in BLOCKS:
        stored(made, block)
        made.hosted(name_of(block))
    whole = entries(made)
    for block in BLOCKS:
        made.removed(name_of(block))
    assert entries(made) == whole == expected(BLOCKS)
    made.unhosted(name_of(BLOCKS[1]))
    assert entries(made) == expected(BLOCKS[:1])


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_what_redis_keeps_is_told_once_and_again_when_it_is_used_later() -> None:
    made, clock = tree(), Clock()
    made.prove(paths(RUN))
    kept = KeptBlocks(made, life_s=LIFE_S, clock=clock)
    for block in BLOCKS:
        kept.kept(name_of(block))
    assert kept.take(100) == []
    for block in BLOCKS:
        stored(made, block)
    assert dict(kept.take(100)) == expected(BLOCKS)
    kept.kept(name_of(BLOCKS[0]))
    assert kept.take(100) == []
    clock.now_s = LIFE_S / 2
    kept.kept(name_of(BLOCKS[0]))
    assert dict(kept.take(100)) == expected(BLOCKS[:1])


def test_a_block_that_nobody_knows_is_not_waited_for() -> None:
    made, clock = tree(), Clock()
    kept = KeptBlocks(made, life_s=LIFE_S, clock=clock)
    kept.kept(name_of(BLOCKS[0]))
    clock.now_s = WAIT_S + 1
    assert kept.take(100) == []
    made.prove(paths(RUN))
    stored(made, BLOCKS[0])
    assert kept.take(100) == []


@given(
    texts=st.lists(
        st.tuples(st.integers(0, 12), st.floats(0, LIFE_S / 3)),
        min_size=1,
        max_size=20,
    )
)
def test_a_gateway_remembers_for_half_a_life_at_least_and_a_life_at_most(texts: list[tuple[int, float]]) -> None:
    memory, now_s = KeptPrefixes(), 0.0
    text = bytes(range(13 * CHUNK_BYTES))
    root = chain_root(model_digest="m", adapter_digest="", salt="")
    chain = PrefixChain(root, text, CHUNK_BYTES)
    told: dict[int, float] = {}
    for chunks, pause_s in texts:
        memory.add(FINGERPRINT, [(chain.key(at), at + 1) for at in range(chunks)], life_s=LIFE_S, now_s=now_s)
        told.update(dict.fromkeys(range(chunks), now_s))
        now_s += pause_s
        found = memory.tokens(chain, FINGERPRINT, block_tokens=1, prompt_tokens=None, now_s=now_s)
        fresh = sum(1 for at in told if now_s - told[at] < LIFE_S / 2)
        alive = sum(1 for at in told if now_s - told[at] <= LIFE_S)
        # Chunks were told from the first on, so those told lately are a prefix of those told ever.
        assert fresh <= found <= alive + 1
    assert memory.tokens(chain, "other", block_tokens=1, prompt_tokens=None, now_s=now_s) == 0
    memory.forget(FINGERPRINT)
    assert memory.tokens(chain, FINGERPRINT, block_tokens=1, prompt_tokens=None, now_s=now_s) == 0
