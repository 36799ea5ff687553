"""The sequences of a replica that decode, advanced many steps at once.

Between two changes of the batch every step gives every sequence one token. So a step's context grows by the batch's
size, the time of k steps is a sum of an arithmetic series, and a block is needed whenever a sequence's length passes a
multiple of the block size, which is the same for it every `block_tokens` steps. What must not live here: prefill,
which sequence is to go when there is no room.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator
from math import ceil, sqrt

from cluster.core.capacity.step import StepCost


class Running:
    """One request inside a replica. `Batch` and `Replica` change it."""

    __slots__ = (
        "arrived_s", "base", "cached", "computed", "end", "generated", "goal", "keys", "number", "output", "own",
        "preemptions", "prefilled", "priority", "prompt", "shared",
    )  # fmt: skip

    def __init__(
        self, number: int, *, prompt: int, output: int, keys: tuple[int, ...], arrived_s: float, priority: int = 0
    ) -> None:
        self.number = number
        self.prompt = prompt
        self.output = output
        """Tokens it will generate, 1 or more."""
        self.keys = keys
        self.arrived_s = arrived_s
        self.priority = priority
        self.goal = prompt
        """Tokens to compute before the next token is generated: the prompt, after a preemption also its answer."""
        self.computed = 0
        """Of those; while it decodes, as of when it began to."""
        self.generated = 0
        """Output tokens, while it decodes as of when it began to."""
        self.shared = 0
        """Chunks at its head that others may use."""
        self.own = 0
        """Blocks besides; while it decodes, as of when it began to."""
        self.base = 0
        """While it decodes: its computed tokens less the batch's steps."""
        self.end = 0
        """While it decodes: the batch's step at which it ends; 0 while it does not."""
        self.cached = -1
        """Prompt tokens found when it first began; -1: it did not yet."""
        self.prefilled = 0
        self.preemptions = 0

    @property
    def rank(self) -> tuple[int, float, int]:
        """The order of vLLM's priority policy: the highest rank is served last and preempted first."""
        return self.priority, self.arrived_s, self.number


class Batch:
    """All that decode."""

    __slots__ = ("_bases", "_block_tokens", "_cost", "_ends", "_members", "_phases", "steps")

    def __init__(self, cost: StepCost, block_tokens: int) -> None:
        self._cost = cost
        self._block_tokens = block_tokens
        self._members: dict[int, Running] = {}
        self._ends: list[tuple[int, int, Running]] = []
        """Heap by the step at which they end; entries of those that left early are stale."""
        self._bases = 0
        self._phases = [0] * block_tokens
        """How many need a block at the steps whose number has this remainder."""
        self.steps = 0
        """Steps done so far, over the replica's life."""

    def __len__(self) -> int:
        return len(self._members)

    @property
    def members(self) -> Collection[Running]:
        """In no order."""
        return self._members.values()

    @property
    def context_tokens(self) -> int:
        """What all attend to in the next step, their new tokens included."""
        return self._bases + len(self._members) * (self.steps + 1)

    def join(self, one: Running) -> None:
        """From the next step on it gets a token each."""
        one.base = one.computed - self.steps
        one.end = self.steps + one.output - one.generated
        self._bases += one.base
        self._phases[-one.base % self._block_tokens] += 1
        self._members[one.number] = one
        heapq.heappush(self._ends, (one.end, one.number, one))

    def leave(self, one: Running) -> None:
        """It decodes no more; its counts are brought up to date, its own blocks included."""
        del self._members[one.number]
        self._bases -= one.base
        self._phases[-one.base % self._block_tokens] -= 1
        before = one.computed
        one.computed = one.base + self.steps
        one.generated = one.output - (one.end - self.steps)
        one.own += -(-one.computed // self._block_tokens) + -before // self._block_tokens
        one.end = 0

    def ended(self) -> Iterator[Running]:
        """Take out those that have all their tokens."""
        ends = self._ends
        while ends and ends[0][0] <= self.steps:
            end, _, one = heapq.heappop(ends)
            if one.end == end:
                self.leave(one)
                yield one

    def steps_left(self) -> int:
        """Steps until the next one ends, 1 or more; there must be somebody."""
        ends = self._ends
        while ends[0][2].end != ends[0][0]:
            heapq.heappop(ends)
        return ends[0][0] - self.steps

    def blocks(self, begin: int, end: int) -> int:
        """Blocks that the steps from `begin` to before `end` need, counted from now (0 is the next step)."""
        cycles, rest = divmod(end - begin, self._block_tokens)
        first = (self.steps + begin) % self._block_tokens
        last = first + rest
        phases = self._phases
        needed = cycles * len(self._members) + sum(phases[first:last])
        return needed + sum(phases[: last - self._block_tokens]) if last > self._block_tokens else needed

    def steps_within(self, blocks: int, most: int) -> int:
        """How many steps, at most `most`, need no more than `blocks`."""
        if self.blocks(0, most) <= blocks:
            return most
        cycles = blocks // len(self._members)
        done, left = cycles * self._block_tokens, blocks - cycles * len(self._members)
        while (needed := self._phases[(self.steps + done) % self._block_tokens]) <= left:
            left -= needed
            done += 1
        return done

    def seconds(self, steps: int) -> float:
        """How long so many steps take that do nothing but decode."""
        first_s, more_s = self._pace()
        return steps * first_s + more_s * (steps * (steps - 1) / 2)

    def steps_until(self, after_s: float, most: int) -> int:
        """How many of such steps have begun after `after_s`, at least 1 and at most `most`."""
        first_s, more_s = self._pace()
        if more_s > 0:
            # more/2 k^2 + (first - more/2) k = after
            linear = first_s - more_s / 2
            steps = ceil((sqrt(linear * linear + 2 * more_s * after_s) - linear) / more_s)
        else:
            steps = ceil(after_s / first_s)
        steps = min(max(steps, 1), most)
        # The root is rounded: the step that is under way at that moment is the last one.
        while steps < most and self.seconds(steps) < after_s:
            steps += 1
        while steps > 1 and self.seconds(steps - 1) >= after_s:
            steps -= 1
        return steps

    def _pace(self) -> tuple[float, float]:
        """Seconds of the next step, and how much longer each is than the one before."""
        cost, size = self._cost, len(self._members)
        context_s = cost.context_token_s
        fixed_s = cost.base_s + max(cost.weights_s, size * cost.token_s) + size * cost.sequence_s
        return fixed_s + self.context_tokens * context_s, size * context_s
