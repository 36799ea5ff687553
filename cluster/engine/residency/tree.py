"""The engine's cached blocks as a tree, and which chunks of text are resident by it.

vLLM names a block by a hash over all tokens up to its end, says so once for every copy it makes and once for every copy
it loses. A block's chunks are **resident** while a copy of it and of every block before it is there, and while its
tokens are what the tokenizer makes of their text: generated tokens need not be, and are in doubt until looked at.
Resident keys are therefore prefix-closed. What must not live here: vLLM's events, sockets, Redis, tokenizing.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import blake2b
from itertools import accumulate, islice
from typing import NamedTuple

from cluster.core.prefix import UPDATE_ENTRIES_MAX, key_of, next_digest

BlockHash = bytes | int
"""vLLM's: 32 bytes, or the low 64 bits of them where its environment says so."""
PATH_BYTES = 16
NO_PATH = b""
"""Before the first block."""
PROVEN_MAX = 131_072
"""Prompt blocks remembered before the engine tells of them: 2M tokens in blocks of 16, more than any engine queues."""
DOUBTS_MAX = 4_096
"""Generated blocks that wait to be looked at. Those beyond stay unpublished, which only costs an estimate."""
CONTEXT_TOKENS = 192
"""Tokens before a block that are looked at with it: tokenizers cut text into words first, so few would do."""


class Standing(Enum):
    """Whether a block's tokens are what the tokenizer makes of their text."""

    PROVEN = auto()
    """They were tokenized from a prompt."""
    CHECKED = auto()
    """They were tokenized anew, to the same."""
    DOUBTFUL = auto()
    REFUTED = auto()


class Changes(NamedTuple):
    """What became of the resident chunks; the keys of both are different ones."""

    adds: list[tuple[int, int]]
    """Keys with tokens, parents before children."""
    removes: list[int]
    """Children before parents."""
    is_cleared: bool
    """Whether everything went, before the others."""


class Doubt(NamedTuple):
    """A block to be tokenized anew."""

    block: BlockHash
    tokens: array[int]
    """Its own, after up to `CONTEXT_TOKENS` or more before them."""
    starts_at: int
    """How many tokens of the prompt lie before `tokens`."""
    context: int
    """How many of `tokens` are before the block."""


@dataclass(slots=True)
class _Block:
    parent: BlockHash | None
    ends_at: int
    """Tokens up to its end."""
    tokens: array[int]
    path: bytes
    """Names all tokens up to its end, whatever adapter or salt."""
    digest: bytes | None
    """The chain's, after the last chunk that ends in it or before it; None where the block has no known text."""
    rest: bytes
    """The text after that chunk."""
    chunks: list[tuple[int, int]]
    """Keys and tokens of the chunks that end in it."""
    standing: Standing
    copies: int = 1
    is_resident: bool = False


@dataclass(slots=True)
class _Pending:
    adds: dict[int, int] = field(default_factory=dict)
    removes: dict[int, None] = field(default_factory=dict)
    is_cleared: bool = False


class BlockTree:
    """Blocks by their hash, resident chunks, and what changed since it was last asked.

    Args:
        root_of: where the chain of an adapter (by name, None without) and a salt begins; None where that is not known.
        token_bytes: each token's text, by its id; None for a token without.
        chunk_bytes: as published.
        block_tokens: tokens in a block.
    """

    def __init__(
        self,
        *,
        root_of: Callable[[str | None, str | None], bytes | None],
        token_bytes: Sequence[bytes | None],
        chunk_bytes: int,
        block_tokens: int,
    ) -> None:
        self._root_of = root_of
        self._token_bytes = token_bytes
        self._chunk_bytes = chunk_bytes
        self.block_tokens = block_tokens
        self._blocks: dict[BlockHash, _Block] = {}
        self._children: dict[BlockHash, set[BlockHash]] = {}
        self._tokens: dict[int, int] = {}
        self._owners: dict[int, int] = {}
        """Blocks a key belongs to, where they are more than one: two tokenizations of one text."""
        self._proven: dict[bytes, None] = {}
        self._unproven: dict[bytes, set[BlockHash]] = {}
        self._doubts: deque[BlockHash] = deque()
        self._pending = _Pending()
        self.orphans = 0
        """Blocks that came after one nobody knows: something was missed."""

    def __len__(self) -> int:
        """Blocks, each once."""
        return len(self._blocks)

    @property
    def has_changes(self) -> bool:
        """Whether there is something to take."""
        return self.has_losses or bool(self._pending.adds)

    @property
    def has_losses(self) -> bool:
        """Whether something was removed: that must be known at once, what was added may wait a little."""
        return bool(self._pending.removes) or self._pending.is_cleared

    @property
    def has_doubts(self) -> bool:
        """Whether blocks wait to be looked at."""
        return bool(self._doubts)

    def stored(
        self,
        block: BlockHash,
        parent: BlockHash | None,
        tokens: Sequence[int],
        *,
        salt: str | None = None,
        adapter: str | None = None,
        is_text: bool = True,
    ) -> None:
        """The engine has one more copy of a block.

        Args:
            block: its hash.
            parent: the hash of the block before it; None for the first.
            tokens: its own.
            salt: of its prompt; told with the first block only.
            adapter: the LoRA adapter's name.
            is_text: False where more than tokens decides what is in it, such as an image.
        """
        found = self._blocks.get(block)
        if found is not None:
            found.copies += 1
            return
        made = self._made(parent, array("I", tokens), salt, adapter, is_text=is_text)
        self._blocks[block] = made
        if parent is not None:
            self._children.setdefault(parent, set()).add(block)
        if made.standing is Standing.DOUBTFUL and made.digest is not None:
            self._unproven.setdefault(made.path, set()).add(block)
            if len(self._doubts) < DOUBTS_MAX:
                self._doubts.append(block)
        self._enter(block)

    def removed(self, block: BlockHash) -> None:
        """The engine has lost one copy of a block."""
        found = self._blocks.get(block)
        if found is None:
            return
        found.copies -= 1
        if found.copies > 0:
            return
        self._leave(block)
        del self._blocks[block]
        self._forget_doubt(block, found)
        siblings = self._children.get(found.parent) if found.parent is not None else None
        if siblings is not None and found.parent is not None:
            siblings.discard(block)
            if not siblings:
                del self._children[found.parent]

    def cleared(self) -> None:
        """The engine has nothing any more, or nobody knows what it has."""
        for part in (self._blocks, self._children, self._tokens, self._owners, self._unproven, self._doubts):
            part.clear()
        self._pending = _Pending(is_cleared=True)

    def prove(self, paths: Iterable[bytes]) -> None:
        """These blocks, by their paths (`next_path`), were tokenized from a prompt."""
        for path in paths:
            self._proven.pop(path, None)
            self._proven[path] = None
            for block in self._unproven.pop(path, ()):
                self._blocks[block].standing = Standing.PROVEN
                self._enter(block)
        while len(self._proven) > PROVEN_MAX:
            del self._proven[next(iter(self._proven))]

    def take_doubts(self, count: int) -> list[Doubt]:
        """Up to `count` of the blocks that wait to be looked at, parents before children."""
        taken: list[Doubt] = []
        while self._doubts and len(taken) < count:
            name = self._doubts.popleft()
            block = self._blocks.get(name)
            if block is None or block.standing is not Standing.DOUBTFUL:
                continue
            before = self._blocks.get(block.parent) if block.parent is not None else None
            if before is not None and before.standing is Standing.REFUTED:
                continue
            parts = [block.tokens]
            context = 0
            while before is not None and context < CONTEXT_TOKENS:
                parts.append(before.tokens)
                context += len(before.tokens)
                before = self._blocks.get(before.parent) if before.parent is not None else None
            tokens: array[int] = array("I")
            for part in reversed(parts):
                tokens.extend(part)
            taken.append(Doubt(name, tokens, block.ends_at - len(tokens), context))
        return taken

    def judge(self, block: BlockHash, agreed_tokens: int) -> None:
        """A doubtful block was looked at.

        Args:
            block: its hash; it may be gone by now.
            agreed_tokens: how many tokens of its prompt are what the tokenizer makes of their text. A difference before
                the block speaks against the generated blocks it is in, too.
        """
        found = self._blocks.get(block)
        if found is None or found.standing is Standing.PROVEN:
            return
        if found.ends_at <= agreed_tokens:
            if found.standing is Standing.DOUBTFUL:
                found.standing = Standing.CHECKED
                self._enter(block)
            return
        name: BlockHash | None = block
        while name is not None and (found := self._blocks.get(name)) is not None and found.ends_at > agreed_tokens:
            if found.standing is not Standing.PROVEN:
                found.standing = Standing.REFUTED
                self._leave(name)
                if found.digest is not None:
                    self._unproven.setdefault(found.path, set()).add(name)
            name = found.parent

    def take_changes(self, limit: int = UPDATE_ENTRIES_MAX) -> Changes:
        """What changed since the last call, at most `limit` entries; what was removed comes first."""
        pending = self._pending
        removes = [pending.removes.popitem()[0] for _ in range(min(limit, len(pending.removes)))]
        keys = list(islice(pending.adds, limit - len(removes)))
        adds = [(key, pending.adds.pop(key)) for key in keys]
        is_cleared, pending.is_cleared = pending.is_cleared, False
        return Changes(adds, removes, is_cleared)

    def drop_changes(self) -> None:
        """Forget what changed: a snapshot will say it."""
        self._pending = _Pending()

    def entries(self) -> tuple[array[int], array[int]]:
        """Every resident key, as array("Q"), with its tokens, as array("I")."""
        return array("Q", self._tokens), array("I", self._tokens.values())

    def _made(
        self, parent: BlockHash | None, tokens: array[int], salt: str | None, adapter: str | None, *, is_text: bool
    ) -> _Block:
        if parent is None:
            path, start, rest, before = NO_PATH, 0, b"", self._root_of(adapter, salt)
        elif (above := self._blocks.get(parent)) is not None:
            path, start, rest, before = above.path, above.ends_at, above.rest, above.digest
        else:
            self.orphans += 1
            path, start, rest, before = NO_PATH, 0, b"", None
        path = next_path(path, tokens)
        digest: bytes | None = None
        chunks: list[tuple[int, int]] = []
        if before is not None and is_text:
            digest, rest, chunks = self._chunks(before, rest, start, tokens)
        return _Block(
            parent=parent,
            ends_at=start + len(tokens),
            tokens=tokens,
            path=path,
            digest=digest,
            rest=rest if digest is not None else b"",
            chunks=chunks,
            standing=Standing.PROVEN if path in self._proven else Standing.DOUBTFUL,
        )

    def _chunks(
        self, digest: bytes, rest: bytes, start: int, tokens: array[int]
    ) -> tuple[bytes | None, bytes, list[tuple[int, int]]]:
        """The chunks that end among `tokens`: the digest after them, the text after them, their keys and tokens."""
        table, size = self._token_bytes, self._chunk_bytes
        known = len(table)
        parts = [table[token] if token < known else None for token in tokens]
        if None in parts:
            return None, b"", []
        texts = [part for part in parts if part is not None]
        text = rest + b"".join(texts)
        ends = list(accumulate(map(len, texts), initial=len(rest)))[1:]
        chunks: list[tuple[int, int]] = []
        end = size
        while end <= len(text):
            digest = next_digest(digest, text[end - size : end])
            # A chunk inside one long token has none; 0 is not an entry, and 1 says the same.
            chunks.append((key_of(digest), max(1, start + bisect_right(ends, end))))
            end += size
        return digest, text[end - size :], chunks

    def _enter(self, first: BlockHash) -> None:
        """Make a block resident if it is to be, and what is below it."""
        names = [first]
        while names:
            name = names.pop()
            block = self._blocks[name]
            if block.is_resident or block.digest is None or block.standing in {Standing.DOUBTFUL, Standing.REFUTED}:
                continue
            if block.parent is not None:
                above = self._blocks.get(block.parent)
                if above is None or not above.is_resident:
                    continue
            block.is_resident = True
            for key, tokens in block.chunks:
                self._hold(key, tokens)
            names.extend(self._children.get(name, ()))

    def _leave(self, first: BlockHash) -> None:
        """Make a block and what is below it resident no more."""
        names = [first]
        while names:
            name = names.pop()
            block = self._blocks[name]
            if not block.is_resident:
                continue
            block.is_resident = False
            for key, _ in block.chunks:
                self._release(key)
            names.extend(self._children.get(name, ()))

    def _hold(self, key: int, tokens: int) -> None:
        if key in self._tokens:
            self._owners[key] = self._owners.get(key, 1) + 1
            return
        self._tokens[key] = tokens
        self._pending.removes.pop(key, None)
        self._pending.adds[key] = tokens

    def _release(self, key: int) -> None:
        owners = self._owners.get(key, 1) - 1
        if owners > 1:
            self._owners[key] = owners
        elif owners == 1:
            del self._owners[key]
        else:
            del self._tokens[key]
            self._pending.adds.pop(key, None)
            self._pending.removes[key] = None

    def _forget_doubt(self, name: BlockHash, block: _Block) -> None:
        names = self._unproven.get(block.path)
        if names is not None:
            names.discard(name)
            if not names:
                del self._unproven[block.path]


def next_path(path: bytes, tokens: array[int]) -> bytes:
    """The path of a block with these tokens (array("I")), after the one with `path`."""
    return blake2b(path + tokens.tobytes(), digest_size=PATH_BYTES).digest()
