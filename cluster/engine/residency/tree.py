"""The engine's cached blocks as a tree, and which chunks of text are resident by it.

vLLM names a block by a hash over all tokens up to its end, says so once for every copy it makes and once for every copy
it loses; the host's memory behind the engine's own cache has one copy more at most. A block's chunks are **resident**
while a copy of it and of every block before it is there, and while its tokens are what the tokenizer makes of their
text: generated tokens need not be, and are in doubt until looked at. Resident keys are therefore prefix-closed. What
must not live here: vLLM's events, sockets, Redis, tokenizing, what of the changes was told (keys.py), what is known of
blocks elsewhere (kept.py).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from cluster.core.prefix import key_of, next_digest
from cluster.engine.residency.block import NO_PATH, Block, BlockHash, Doubt, Standing, next_path
from cluster.engine.residency.keys import ResidentKeys

PROVEN_MAX = 131_072
"""Prompt blocks remembered before the engine tells of them: 2M tokens in blocks of 16, more than any engine queues."""
DOUBTS_MAX = 4_096
"""Generated blocks that wait to be looked at. Those beyond stay unpublished, which only costs an estimate."""
CONTEXT_TOKENS = 192
"""Tokens before a block that are looked at with it: tokenizers cut text into words first, so few would do."""


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
        self._blocks: dict[BlockHash, Block] = {}
        self._hosted: set[BlockHash] = set()
        """Blocks in the host's memory; some of them may never have been in the engine's cache as far as is known."""
        self._children: dict[BlockHash, set[BlockHash]] = {}
        self.keys = ResidentKeys()
        """What is resident, and how it changed."""
        self._proven: dict[bytes, None] = {}
        self._unproven: dict[bytes, set[BlockHash]] = {}
        self._doubts: deque[BlockHash] = deque()
        self.orphans = 0
        """Blocks that came after one nobody knows: something was missed."""

    def __len__(self) -> int:
        """Blocks, each once."""
        return len(self._blocks)

    def leading(self, blocks: Iterable[BlockHash]) -> int:
        """How many of these, from the first, the engine has in its cache or in the host's memory. For any thread."""
        count = 0
        for block in blocks:
            if block not in self._blocks and block not in self._hosted:
                break
            count += 1
        return count

    def resident_chunks(self, block: BlockHash) -> Sequence[tuple[int, int]]:
        """Keys and tokens of the chunks that end in a resident block; none of any other."""
        found = self._blocks.get(block)
        return found.chunks if found is not None and found.is_resident else ()

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
        found.copies = max(0, found.copies - 1)
        if not found.copies and block not in self._hosted:
            self._drop(block, found)

    def hosted(self, block: BlockHash) -> None:
        """The host's memory has a copy of a block."""
        self._hosted.add(block)

    def unhosted(self, block: BlockHash) -> None:
        """The host's memory has no copy of a block any more."""
        self._hosted.discard(block)
        found = self._blocks.get(block)
        if found is not None and not found.copies:
            self._drop(block, found)

    def _drop(self, block: BlockHash, found: Block) -> None:
        self._leave(block)
        del self._blocks[block]
        self._forget_doubt(block, found)
        siblings = self._children.get(found.parent) if found.parent is not None else None
        if siblings is not None and found.parent is not None:
            siblings.discard(block)
            if not siblings:
                del self._children[found.parent]

    def cleared(self) -> None:
        """The engine has nothing any more, or nobody knows what it has.

        What the host's memory still has then is found by the engine, and not predicted: what resets one cache mostly
        resets both, and vLLM tells of the engine's own alone.
        """
        for part in (self._blocks, self._hosted, self._children, self._unproven, self._doubts, self.keys):
            part.clear()

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

    def _made(
        self, parent: BlockHash | None, tokens: array[int], salt: str | None, adapter: str | None, *, is_text: bool
    ) -> Block:
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
        return Block(
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
                self.keys.hold(key, tokens)
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
                self.keys.release(key)
            names.extend(self._children.get(name, ()))

    def _forget_doubt(self, name: BlockHash, block: Block) -> None:
        names = self._unproven.get(block.path)
        if names is not None:
            names.discard(name)
            if not names:
                del self._unproven[block.path]
