"""One replica: vLLM's scheduler over a KV cache, in steps that take time.

The rules are those of vllm/v1/core/sched/scheduler.py (0.32) with the settings of cluster/engine: a step has a budget
of tokens; whoever decodes gets one each; then the prompts that were begun go on; then prompts are begun from the
waiting line, by priority and arrival, while there is budget, a place in the batch, and room for the whole prompt.
Where blocks run out, the sequence with the highest rank is preempted: it loses its blocks, waits again, and computes
its prompt and its answer so far anew. A step in which somebody was preempted begins no prompt.

A step with prompt tokens is one stretch; steps that only decode are one stretch up to the next change (batch.py). What
must not live here: the event loop, how requests get here.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from math import inf
from typing import NamedTuple

from cluster.core.capacity.step import prefill_pairs
from cluster.simulator.batch import Batch, Running
from cluster.simulator.cluster import ReplicaSpec
from cluster.simulator.kv import KvCache
from cluster.simulator.tally import Tally


class Advanced(NamedTuple):
    """What the end of a stretch brought."""

    answered: Sequence[Running]
    """They have their first token."""
    ended: Sequence[Running]
    """They have their last; one of a single token is in both."""


class Replica:
    """One engine. `until_s` is when its stretch ends, None while it has nothing to do."""

    __slots__ = (
        "_began_s", "_begun", "_chunk_tokens", "_chunks", "_counted_s", "_first_blocks", "_spec", "_steps",
        "_waiting", "batch", "kv", "prefill_tokens", "tally", "until_s",
    )  # fmt: skip

    def __init__(self, spec: ReplicaSpec, *, chunk_tokens: int) -> None:
        """An idle replica with an empty cache.

        Args:
            spec: what it can do.
            chunk_tokens: tokens of a chunk of the prefix cache (`Trace.block_tokens`); a multiple of its blocks.

        Raises:
            ValueError: chunks are not whole blocks.
        """
        if chunk_tokens % spec.block_tokens:
            raise ValueError(
                f"the trace's blocks have {chunk_tokens} tokens, which is no multiple of the replica's "
                f"{spec.block_tokens}: set block_tokens to a divisor"
            )
        self._spec = spec
        self._chunk_tokens = chunk_tokens
        self.tally = Tally()
        self.kv = KvCache(blocks=spec.kv_tokens // spec.block_tokens, chunk_blocks=chunk_tokens // spec.block_tokens)
        self.batch = Batch(spec.cost, spec.block_tokens)
        self.prefill_tokens = 0
        """Prompt tokens of those here that have no token yet."""
        self.until_s: float | None = None
        self._waiting: list[tuple[int, float, int, Running]] = []
        self._begun: list[Running] = []
        """Whose prompts are begun, in that order; those that this step completes included."""
        self._chunks: list[tuple[Running, int]] = []
        """Whose prompts this step computes, and how many tokens of each."""
        self._began_s = 0.0
        self._counted_s = 0.0
        """Up to when `Tally.prefill_token_s` is counted."""
        self._steps = 0
        """Of the stretch."""
        self._first_blocks = 0
        """Blocks the batch took for the first of them."""

    @property
    def running(self) -> int:
        """Sequences in its batch, prompts included."""
        return len(self.batch) + len(self._begun)

    @property
    def waiting(self) -> int:
        """Requests in its waiting line."""
        return len(self._waiting)

    @property
    def oldest_arrival_s(self) -> float:
        """When the oldest of those came; infinity where nobody waits."""
        return min((entry[1] for entry in self._waiting), default=inf)

    def kv_use_ratio(self, now_s: float) -> float:
        """Share of its KV cache in use at a moment of the stretch."""
        grown = 0
        if self._steps > 1:
            grown = self.batch.blocks(1, self.batch.steps_until(now_s - self._began_s, self._steps))
        return self.kv.use_ratio + grown / self.kv.total

    def everybody(self) -> Iterator[Running]:
        """All that are here, in no order."""
        yield from self.batch.members
        yield from self._begun
        yield from (entry[3] for entry in self._waiting)

    def enter(self, one: Running, now_s: float) -> bool:
        """A request comes. Whether `until_s` is another than before."""
        heapq.heappush(self._waiting, (*one.rank, one))
        self.tally.prefill_token_s += self.prefill_tokens * (now_s - self._counted_s)
        self._counted_s = now_s
        self.prefill_tokens += one.prompt
        if self.until_s is None:
            self._begin(now_s)
            return True
        is_next = self._waiting[0][3] is one and self.running < self._spec.max_running
        if self._chunks or self._steps == 1 or not is_next:
            return False
        steps = self.batch.steps_until(now_s - self._began_s, self._steps)
        if steps == self._steps:
            return False
        self._steps = steps
        self.until_s = self._began_s + self.batch.seconds(steps)
        return True

    def advance(self) -> Advanced:
        """The stretch is over: account for it, and begin the next."""
        now_s = self.until_s
        assert now_s is not None
        tally, batch, steps = self.tally, self.batch, self._steps
        took_s, size = now_s - self._began_s, len(batch)
        tally.steps += steps
        tally.busy_s += took_s
        tally.prefill_token_s += self.prefill_tokens * (now_s - self._counted_s)
        self._counted_s = now_s
        if size:
            tally.decoded_tokens += steps * size
            tally.decode_s += took_s
            tally.decode_sequence_s += took_s * size
            if self._chunks:
                tally.decode_blocked_s += took_s
        if steps > 1:
            self.kv.take(batch.blocks(1, steps))
        batch.steps += steps
        answered, ended = self._computed(took_s)
        ended += batch.ended()
        for one in ended:
            self.kv.let_go(one.keys, one.shared, one.own)
        self._begin(now_s)
        return Advanced(answered, ended)

    def _computed(self, took_s: float) -> tuple[list[Running], list[Running]]:
        """Prompts are as much further as the step computed: who has a first token, and who needs no other."""
        answered: list[Running] = []
        ended: list[Running] = []
        if not self._chunks:
            return answered, ended
        tally = self.tally
        tally.prefill_s += took_s
        for one, tokens in self._chunks:
            one.computed += tokens
            one.prefilled += tokens
            tally.prefilled_tokens += tokens
            self._share(one)
            if one.computed < one.goal:
                continue
            self._begun.remove(one)
            one.generated += 1
            tally.decoded_tokens += 1
            tally.first_tokens += 1
            if one.generated == 1:
                self.prefill_tokens -= one.prompt
                answered.append(one)
            if one.generated == one.output:
                ended.append(one)
            else:
                self.batch.join(one)
        self._chunks = []
        return answered, ended

    def _share(self, one: Running) -> None:
        """Chunks of its prompt that are whole now can be found by others.

        Where another sequence computed the same chunk meanwhile, both use that one. (vLLM keeps both until they end.)
        """
        whole = min(one.computed // self._chunk_tokens, len(one.keys))
        kv = self.kv
        while one.shared < whole:
            key = one.keys[one.shared]
            if not kv.share(key, (one.shared + 1) * self._chunk_tokens):
                kv.hold((key,), 1)
                kv.blank += kv.chunk_blocks
            one.shared += 1
            one.own -= kv.chunk_blocks

    def _begin(self, now_s: float) -> None:
        """Schedule the next step, or stretch of steps."""
        self._began_s = now_s
        kv, batch, spec = self.kv, self.batch, self._spec
        preemptions = self.tally.preemptions
        self._first_blocks = 0
        while (needed := batch.blocks(0, 1)) > kv.free:
            self._preempt()
        kv.take(needed)
        self._first_blocks = needed
        most = self._most_tokens()
        self._continue_begun(most)
        is_preempting = self.tally.preemptions > preemptions
        begun = 0 if is_preempting else self._admit(most)
        if self._chunks:
            self._steps = 1
            pairs = sum(prefill_pairs(one.computed, one.computed + tokens) for one, tokens in self._chunks)
            self.until_s = now_s + spec.cost.step_s(
                prefill_tokens=sum(tokens for _, tokens in self._chunks),
                attended_tokens=pairs,
                decoding=len(batch),
                context_tokens=batch.context_tokens,
                begun=begun,
            )
        elif len(batch):
            left = 1 if is_preempting and self._waiting else batch.steps_left()
            self._steps = 1 if left == 1 else max(batch.steps_within(kv.free + self._first_blocks, left), 1)
            self.until_s = now_s + batch.seconds(self._steps)
        elif is_preempting:
            # Only a prompt ran, and it had to give way to itself: begin anew.
            self._begin(now_s)
        else:
            self._steps = 0
            self.until_s = None

    def _most_tokens(self) -> int:
        """Of one prompt in this step. vLLM sets no bound for one that has nobody beside it."""
        bound = self._spec.long_prefill_tokens
        return bound if bound and self.running + self.waiting > 1 else self._spec.batch_tokens

    def _budget(self) -> int:
        return self._spec.batch_tokens - len(self.batch) - sum(tokens for _, tokens in self._chunks)

    def _continue_begun(self, most: int) -> None:
        for one in tuple(self._begun):
            if one not in self._begun:
                continue  # it had to give way to one before it
            tokens = min(one.goal - one.computed, most, self._budget())
            if tokens <= 0:
                return
            while self._blocks_for(one, tokens) > self.kv.free:
                if self._preempt() is one:
                    break
            else:
                self._compute(one, tokens)

    def _admit(self, most: int) -> int:
        """Begin prompts from the waiting line; how many for the first time."""
        budget, begun = self._budget(), 0
        kv, waiting, block_tokens = self.kv, self._waiting, self._spec.block_tokens
        while waiting and budget > 0 and self.running < self._spec.max_running:
            one = waiting[0][3]
            # An engine computes at least the last token.
            found, idle = kv.match(one.keys, min(len(one.keys), (one.goal - 1) // self._chunk_tokens))
            if -(-one.goal // block_tokens) - found * kv.chunk_blocks + idle > kv.free:
                break
            heapq.heappop(waiting)
            kv.hold(one.keys, found)
            one.shared = found
            one.computed = found * self._chunk_tokens
            if one.cached < 0:
                one.cached = one.computed
                begun += 1
            tokens = min(one.goal - one.computed, most, budget)
            budget -= tokens
            self._begun.append(one)
            self._compute(one, tokens)
        return begun

    def _compute(self, one: Running, tokens: int) -> None:
        blocks = self._blocks_for(one, tokens)
        self.kv.take(blocks)
        one.own += blocks
        self._chunks.append((one, tokens))

    def _blocks_for(self, one: Running, tokens: int) -> int:
        held = one.shared * self.kv.chunk_blocks + one.own
        return -(-(one.computed + tokens) // self._spec.block_tokens) - held

    def _preempt(self) -> Running:
        """Take the place of the one with the highest rank."""
        batch, begun = self.batch, self._begun
        last = max((*batch.members, *begun), key=_rank)
        if last in begun:
            begun.remove(last)
            self._chunks = [chunk for chunk in self._chunks if chunk[0] is not last]
        else:
            if self._first_blocks and (last.base + batch.steps) % self._spec.block_tokens == 0:
                self.kv.blank += 1
                self._first_blocks -= 1
            batch.leave(last)
        self.kv.let_go(last.keys, last.shared, last.own)
        last.goal = last.prompt + last.generated
        last.computed = last.shared = last.own = 0
        last.preemptions += 1
        self.tally.preemptions += 1
        heapq.heappush(self._waiting, (*last.rank, last))
        return last


def _rank(one: Running) -> tuple[int, float, int]:
    return one.rank
