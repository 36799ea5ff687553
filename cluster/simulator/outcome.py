"""What became of every request, and of the cluster: what a simulation answers.

A million requests are kept in columns of numbers (72 bytes a request); `Outcomes.row` gives one of them as a record.
What must not live here: percentiles, goodput, tables (the report's).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import nan
from typing import NamedTuple

from cluster.core.autoscaling import Decision
from cluster.core.lease import PoolName

NOWHERE = -1
"""Pool or replica of a request that was never sent to one."""


class Fate(IntEnum):
    """How a request ended."""

    OPEN = 0
    """It has not ended: the simulation was cut off."""
    DONE = 1
    TOO_LONG = 2
    """No pool holds it."""
    QUEUE_FULL = 3
    QUEUE_TIME = 4
    """It waited as long as it may (`limits.queue_s`)."""
    DEADLINE = 5
    HOPELESS = 6
    """Refused at once: the line would have taken longer than its deadline."""
    NO_ENDPOINT = 7
    """No replica of a fitting pool accepts."""
    LOST = 8
    """Its replica died after its first token."""
    GAVE_UP = 9
    """Its replica died before its first token, and there was no further try."""
    OVERLOADED = 10
    """Every replica that was tried had its queue full."""


class Record(NamedTuple):
    """One request."""

    number: int
    """Its place in the trace."""
    fate: Fate
    arrived_s: float
    sent_s: float
    """When a replica got it, the last time; nan: never."""
    first_token_s: float
    """nan: none."""
    ended_s: float
    prompt_tokens: int
    output_tokens: int
    """Generated."""
    cached_tokens: int
    """Prompt tokens found in the replica's cache."""
    prefilled_tokens: int
    """Tokens computed for it before or between output tokens, again after a preemption included."""
    preemptions: int
    pool: int
    """Index in `ClusterSpec.pools`; `NOWHERE`."""
    replica: int
    """A number that no other replica of the run has; `NOWHERE`."""

    @property
    def ttft_s(self) -> float:
        """Time to the first token from arrival; nan where there is none."""
        return self.first_token_s - self.arrived_s

    @property
    def itl_s(self) -> float:
        """Mean time between two of its tokens; nan where it has fewer than two."""
        return (self.ended_s - self.first_token_s) / (self.output_tokens - 1) if self.output_tokens > 1 else nan


class Outcomes(Sequence[Record]):
    """All requests of a trace, in its order."""

    __slots__ = (
        "arrived_s", "cached_tokens", "ended_s", "fate", "first_token_s", "output_tokens", "pool", "preemptions",
        "prefilled_tokens", "prompt_tokens", "replica", "sent_s",
    )  # fmt: skip

    def __init__(self, arrived_s: Sequence[float], prompt_tokens: Sequence[int]) -> None:
        count = len(arrived_s)
        self.arrived_s = array("d", arrived_s)
        self.prompt_tokens = array("l", prompt_tokens)
        self.sent_s = array("d", [nan]) * count
        self.first_token_s = array("d", [nan]) * count
        self.ended_s = array("d", [nan]) * count
        self.output_tokens = array("l", [0]) * count
        self.cached_tokens = array("l", [0]) * count
        self.prefilled_tokens = array("l", [0]) * count
        self.preemptions = array("h", [0]) * count
        self.fate = array("b", [Fate.OPEN]) * count
        self.pool = array("h", [NOWHERE]) * count
        self.replica = array("l", [NOWHERE]) * count

    def __len__(self) -> int:
        return len(self.fate)

    def __iter__(self) -> Iterator[Record]:
        return map(self.row, range(len(self)))

    def __getitem__(self, number: int) -> Record:  # type: ignore[override] # no slices: columns are there for that
        return self.row(range(len(self))[number])

    def row(self, number: int) -> Record:
        """One request."""
        return Record(
            number=number,
            fate=Fate(self.fate[number]),
            arrived_s=self.arrived_s[number],
            sent_s=self.sent_s[number],
            first_token_s=self.first_token_s[number],
            ended_s=self.ended_s[number],
            prompt_tokens=self.prompt_tokens[number],
            output_tokens=self.output_tokens[number],
            cached_tokens=self.cached_tokens[number],
            prefilled_tokens=self.prefilled_tokens[number],
            preemptions=self.preemptions[number],
            pool=self.pool[number],
            replica=self.replica[number],
        )


class Size(NamedTuple):
    """A pool's replicas from one moment on."""

    at_s: float
    pool: PoolName
    ready: int
    starting: int


@dataclass(slots=True, kw_only=True)
class PoolUse:
    """What a pool took."""

    replica_s: float = 0.0
    """Time of its replicas from their order to their end, start-up included, all together."""
    gpu_s: float = 0.0
    busy_s: float = 0.0
    """Time in steps, all replicas together."""
    steps: int = 0
    sent_requests: int = 0
    """To its replicas, again after a failure included."""
    sent_tokens: int = 0
    """Their prompts."""
    answers: int = 0
    """Requests that were answered in full."""
    answer_tokens: int = 0
    prefilled_tokens: int = 0
    decoded_tokens: int = 0
    preemptions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A whole run."""

    trace: str
    router: str
    seed: int
    outcomes: Outcomes
    pools: dict[PoolName, PoolUse]
    sizes: tuple[Size, ...]
    """Whenever a pool's replicas changed."""
    decisions: tuple[Decision, ...]
    """The autoscaler's, those that changed something."""
    ended_s: float
    """Simulated time of the last event."""
    events: int
    wall_s: float = field(compare=False)
    """What the run took, on this machine."""
