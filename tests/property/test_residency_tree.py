"""The tree of cached blocks against the plain meaning of residency, whatever is stored, removed and doubted."""

from __future__ import annotations

from array import array
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cluster.engine.residency.tree import DOUBTS_MAX, BlockTree
from tests.residency import BLOCK_TOKENS, Mirror, entries, expected, paths, tree

Name = tuple[int, ...]


def name_of(tokens: Name) -> bytes:
    return repr(tokens).encode()


def store(made: BlockTree, tokens: Name, **more: object) -> None:
    """One more copy of the block that ends `tokens`."""
    parent = tokens[:-BLOCK_TOKENS]
    made.stored(name_of(tokens), name_of(parent) if parent else None, tokens[-BLOCK_TOKENS:], **more)  # type: ignore[arg-type]


def resident(copies: Counter[Name], trusted: set[Name] | None = None) -> list[Name]:
    """The runs of blocks all of which are there and trusted."""
    return [
        tokens
        for tokens in copies
        if all(
            copies[tokens[:end]] > 0 and (trusted is None or tokens[:end] in trusted)
            for end in range(BLOCK_TOKENS, len(tokens) + 1, BLOCK_TOKENS)
        )
    ]


# Few tokens, so that prompts share blocks and texts share chunks.
PROMPTS = st.lists(st.integers(0, 2), min_size=BLOCK_TOKENS, max_size=8 * BLOCK_TOKENS).map(
    lambda tokens: tuple(tokens[: len(tokens) // BLOCK_TOKENS * BLOCK_TOKENS])
)


@given(data=st.data(), limit=st.sampled_from([1, 3, 65_536]))
def test_entries_and_updates_say_what_is_resident(data: st.DataObject, limit: int) -> None:
    made, mirror = tree(), Mirror()
    copies: Counter[Name] = Counter()
    for prompt in data.draw(st.lists(PROMPTS, max_size=6)):
        made.prove(paths(prompt))
        first = data.draw(st.integers(0, len(prompt) // BLOCK_TOKENS))
        for end in range(BLOCK_TOKENS, len(prompt) + 1, BLOCK_TOKENS):
            # The engine has its blocks up to some hit already, and makes copies of the others.
            if end > first * BLOCK_TOKENS or not copies[prompt[:end]]:
                store(made, prompt[:end])
                copies[prompt[:end]] += 1
        for _ in range(data.draw(st.integers(0, 6))):
            present = sorted(tokens for tokens in copies if copies[tokens])
            if not present:
                break
            gone = data.draw(st.sampled_from(present))
            made.removed(name_of(gone))
            copies[gone] -= 1
        if data.draw(st.booleans()):
            mirror.take(made, limit)
            assert mirror.table == entries(made)
        copies = +copies
        assert entries(made) == expected(resident(copies))
        assert len(made) == len(copies)
    mirror.take(made, limit)
    assert mirror.table == entries(made)
    for tokens, count in copies.items():
        for _ in range(count):
            made.removed(name_of(tokens))
    mirror.take(made, limit)
    assert (len(made), entries(made), mirror.table) == (0, {}, {})


@given(data=st.data())
def test_blocks_in_doubt_are_not_resident(data: st.DataObject) -> None:
    made = tree()
    copies: Counter[Name] = Counter()
    trusted: set[Name] = set()
    for prompt in data.draw(st.lists(PROMPTS, max_size=5)):
        proven = data.draw(st.integers(0, len(prompt) // BLOCK_TOKENS))
        made.prove(list(paths(prompt))[:proven])
        trusted |= {prompt[: end * BLOCK_TOKENS] for end in range(1, proven + 1)}
        for end in range(BLOCK_TOKENS, len(prompt) + 1, BLOCK_TOKENS):
            store(made, prompt[:end])
            copies[prompt[:end]] += 1
        assert entries(made) == expected(resident(copies, trusted))
        for doubt in made.take_doubts(100):
            window = doubt.tokens.tolist()
            ends_at = doubt.starts_at + len(window)
            assert doubt.context == len(window) - BLOCK_TOKENS
            tokens = next(name for name in copies if name_of(name) == doubt.block)
            assert tokens[doubt.starts_at :] == tuple(window)
            if data.draw(st.booleans()):
                made.judge(doubt.block, ends_at)
                trusted.add(tokens)
            else:
                made.judge(doubt.block, ends_at - BLOCK_TOKENS)
        assert entries(made) == expected(resident(copies, trusted))


def proven(*prompts: Name) -> BlockTree:
    made = tree()
    for prompt in prompts:
        made.prove(paths(prompt))
        for end in range(BLOCK_TOKENS, len(prompt) + 1, BLOCK_TOKENS):
            store(made, prompt[:end])
    return made


def test_a_copy_that_goes_leaves_the_other() -> None:
    made = proven((1, 2, 0, 1), (1, 2, 0, 1))
    before = entries(made)
    made.removed(name_of((1, 2)))
    made.removed(name_of((1, 2, 0, 1)))
    assert entries(made) == before != {}
    made.removed(name_of((1, 2)))
    assert entries(made) == {}
    store(made, (1, 2))
    assert entries(made) == before


def test_salt_and_adapter_begin_other_chains() -> None:
    tokens = (1, 2, 0, 1)
    for salt, adapter in ((None, None), ("acme", None), (None, "sql"), ("acme", "sql")):
        made = tree()
        made.prove(paths(tokens))
        store(made, tokens[:2], salt=salt, adapter=adapter)
        store(made, tokens, adapter=adapter)
        assert entries(made) == expected([tokens], salt=salt, adapter=adapter)
    made = tree()
    made.prove(paths(tokens))
    store(made, tokens[:2], adapter="unknown")
    assert (entries(made), len(made)) == ({}, 1)


def test_what_has_no_text_ends_a_chain() -> None:
    made = tree()
    for image, prompt in (
        (False, (1, 2, 0, 1)),
        (True, (1, 2, 2, 2)),
        (False, (1, 2, 2, 2, 1, 1)),
        (False, (1, 2, 1, 99)),
    ):
        made.prove(paths(prompt))
        if len(prompt) == 4 and len(made) == 0:
            store(made, prompt[:2])
        store(made, prompt, is_text=not image)
    assert entries(made) == expected([(1, 2, 0, 1)])
    assert not made.has_doubts


def test_a_difference_before_the_block_refutes_what_was_generated_there() -> None:
    made = tree()
    prompt, answer = (1, 2), (0, 1, 2, 2)
    made.prove(paths(prompt))
    for end in (2, 4, 6):
        store(made, (prompt + answer)[:end])
    first, second = made.take_doubts(10)
    made.judge(first.block, 4)
    assert entries(made) == expected([(1, 2, 0, 1)])
    made.judge(second.block, 1)
    assert entries(made) == expected([prompt]), "the prompt's own block is what it is"
    made.prove(paths(prompt + answer))
    assert entries(made) == expected([prompt + answer]), "the next turn brought them as text"


def test_after_a_block_nobody_knows_nothing_is_published() -> None:
    made = tree()
    made.prove(paths((1, 2, 0, 1)))
    store(made, (1, 2, 0, 1))
    assert (entries(made), made.orphans, len(made)) == ({}, 1, 1)
    made.removed(b"never heard of")


def test_clearing_is_told_once() -> None:
    made, mirror = proven((1, 2, 0, 1)), Mirror()
    mirror.take(made)
    made.cleared()
    store(made, (1, 2))
    changes = made.take_changes()
    assert (changes.is_cleared, changes.removes, made.has_changes) == (True, [], False)


def test_doubts_are_bounded() -> None:
    made = tree()
    for number in range(DOUBTS_MAX + 10):
        made.stored(number, None, array("I", [number % 20, number // 20 % 20]))
    assert len(made.take_doubts(DOUBTS_MAX * 2)) == DOUBTS_MAX
