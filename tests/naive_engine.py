"""vLLM's scheduler written down step by step and token by token: what the simulator's replica must agree with.

Slow and plain on purpose: every sequence is looked at in every step, every block is counted from scratch. It follows
`Scheduler.schedule` of vllm/v1/core/sched/scheduler.py, with the priority policy. Two things are left
out, in the simulator as well: where a sequence in the middle of the list preempts itself, vLLM gives those behind it
nothing in that one step; and with a bound on long prefills, several of them before a sequence that decodes can take
what it needed of the step (here those that decode come first).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from cluster.simulator.cluster import ReplicaSpec


@dataclass(eq=False)
class Sequence:
    number: int
    prompt: int
    output: int
    keys: tuple[int, ...]
    arrived_s: float
    priority: int
    computed: int = 0
    generated: int = 0
    own_blocks: int = 0
    chunks: int = 0
    is_decoding: bool = False
    """It caught up with its prompt, and with its answer where it was preempted."""
    preemptions: int = 0
    cached: int = -1
    first_token_s: float = -1.0
    ended_s: float = -1.0

    @property
    def tokens(self) -> int:
        return self.prompt + self.generated

    @property
    def rank(self) -> tuple[int, float, int]:
        return self.priority, self.arrived_s, self.number


@dataclass
class NaiveEngine:
    spec: ReplicaSpec
    chunk_tokens: int
    running: list[Sequence] = field(default_factory=list)
    waiting: list[Sequence] = field(default_factory=list)
    users: dict[int, int] = field(default_factory=dict)
    idle: list[tuple[int | None, int]] = field(default_factory=list)
    """Chunks nobody uses, by key, and answers' blocks, without one; the one let go longest ago first."""
    blank: int = -1

    def __post_init__(self) -> None:
        self.blank = self.spec.kv_tokens // self.spec.block_tokens
        self.chunk_blocks = self.chunk_tokens // self.spec.block_tokens
        self.most = self.spec.batch_tokens

    def run(self, arrivals: list[Sequence]) -> None:
        now_s, left = 0.0, list(arrivals)
        while left or self.running or self.waiting:
            if not self.running and not self.waiting:
                now_s = left[0].arrived_s
                self.waiting.append(left.pop(0))
            now_s += self.step(now_s)
            while left and left[0].arrived_s <= now_s:
                self.waiting.append(left.pop(0))

    def step(self, now_s: float) -> float:
        """Schedule, compute; the seconds it took."""
        scheduled: dict[Sequence, int] = {}
        is_alone = len(self.running) + len(self.waiting) == 1
        bound = self.spec.long_prefill_tokens
        self.most = self.spec.batch_tokens if is_alone or not bound else bound
        if not self.go_on(scheduled):
            self.begin(scheduled)
        if not scheduled:
            return 0.0
        took_s = self.seconds(scheduled)
        self.compute(scheduled, now_s + took_s)
        return took_s

    def go_on(self, scheduled: dict[Sequence, int]) -> bool:
        """Those that run; whether any had to be preempted."""
        new_blocks: dict[Sequence, int] = {}
        budget, is_preempting = self.spec.batch_tokens, False
        for one in sorted(self.running, key=lambda each: not each.is_decoding):
            if one not in self.running:
                continue
            if budget <= 0:
                break
            tokens = min(one.tokens - one.computed, self.most, budget)
            needed = self.needed(one, tokens)
            while one in self.running and needed > self.free():
                is_preempting = True
                victim = max(self.running, key=lambda each: each.rank)
                self.running.remove(victim)
                budget += scheduled.pop(victim, 0)
                victim.own_blocks += new_blocks.pop(victim, 0)
                self.give_up(victim)
            if one in self.running:
                self.take(needed)
                new_blocks[one] = needed
                scheduled[one] = tokens
                budget -= tokens
        for one, blocks in new_blocks.items():
            one.own_blocks += blocks
        return is_preempting

    def begin(self, scheduled: dict[Sequence, int]) -> None:
        """Those that wait."""
        budget = self.spec.batch_tokens - sum(scheduled.values())
        self.waiting.sort(key=lambda each: each.rank)
        while budget > 0 and self.waiting and len(self.running) < self.spec.max_running:
            one = self.waiting[0]
            hits = self.hits(one)
            idle_keys = {key for key, _ in self.idle}
            idle_hits = sum(key in idle_keys for key in one.keys[:hits])
            total = ceil(one.tokens / self.spec.block_tokens)
            if total - hits * self.chunk_blocks + idle_hits * self.chunk_blocks > self.free():
                return
            self.waiting.pop(0)
            for key in one.keys[:hits]:
                self.use(key)
            one.chunks, one.computed = hits, hits * self.chunk_tokens
            if one.cached < 0:
                one.cached = one.computed
            tokens = min(one.tokens - one.computed, self.most, budget)
            needed = self.needed(one, tokens)
            self.take(needed)
            one.own_blocks += needed
            scheduled[one] = tokens
            budget -= tokens
            self.running.append(one)

    def seconds(self, scheduled: dict[Sequence, int]) -> float:
        cost = self.spec.cost
        decoding = [one for one in scheduled if one.is_decoding]
        prefilling = [one for one in scheduled if not one.is_decoding]
        attended = sum(sum(range(one.computed + 1, one.computed + scheduled[one] + 1)) for one in prefilling)
        context = sum(one.computed + 1 for one in decoding)
        linear_s = max(cost.weights_s, sum(scheduled.values()) * cost.token_s)
        return cost.base_s + linear_s + attended * cost.attention_s + context * cost.context_token_s

    def compute(self, scheduled: dict[Sequence, int], now_s: float) -> None:
        was_decoding = {one: one.is_decoding for one in scheduled}
        for one, tokens in scheduled.items():
            one.computed += tokens
            while one.chunks < min(one.computed // self.chunk_tokens, len(one.keys)):
                key = one.keys[one.chunks]
                is_resident = key in self.users or any(key == other for other, _ in self.idle)
                if is_resident:
                    self.blank += self.chunk_blocks
                    self.use(key)
                else:
                    self.users[key] = 1
                one.chunks += 1
                one.own_blocks -= self.chunk_blocks
            if one.computed == one.tokens:
                one.generated += 1
                one.is_decoding = True
                if one.generated == 1:
                    one.first_token_s = now_s
        ended = [one for one in scheduled if one.generated == one.output]
        for one in sorted(ended, key=lambda each: (was_decoding[each], each.number if was_decoding[each] else 0)):
            one.ended_s = now_s
            self.running.remove(one)
            self.let_go(one)

    def hits(self, one: Sequence) -> int:
        resident = set(self.users) | {key for key, _ in self.idle}
        most = min(len(one.keys), (one.tokens - 1) // self.chunk_tokens)
        found = 0
        while found < most and one.keys[found] in resident:
            found += 1
        return found

    def needed(self, one: Sequence, tokens: int) -> int:
        return ceil((one.computed + tokens) / self.spec.block_tokens) - one.chunks * self.chunk_blocks - one.own_blocks

    def free(self) -> int:
        return self.blank + sum(blocks for _, blocks in self.idle)

    def take(self, blocks: int) -> None:
        assert blocks <= self.free()
        while self.blank < blocks:
            self.blank += self.idle.pop(0)[1]
        self.blank -= blocks

    def use(self, key: int) -> None:
        if key in self.users:
            self.users[key] += 1
        else:
            self.idle.remove((key, self.chunk_blocks))
            self.users[key] = 1

    def give_up(self, one: Sequence) -> None:
        one.preemptions += 1
        self.let_go(one)
        one.computed = one.own_blocks = one.chunks = 0
        one.is_decoding = False
        self.waiting.append(one)

    def let_go(self, one: Sequence) -> None:
        if one.own_blocks:
            self.idle.append((None, one.own_blocks))
        for key in reversed(one.keys[: one.chunks]):
            self.users[key] -= 1
            if not self.users[key]:
                del self.users[key]
                self.idle.append((key, self.chunk_blocks))
