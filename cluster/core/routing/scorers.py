"""Scorers: how much each candidate deserves the request, from 0 (worst) to 1 (best).

A scorer looks at all candidates in one call, because a call for each would cost more than its arithmetic; yet every
score depends on that one endpoint and the request alone, so a candidate more or less changes no other's score. What
must not live here: weights (profile.py), who may serve at all (filters.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from cluster.core.routing.endpoint import Member
from cluster.core.routing.index import ASSUMED_CAPACITY
from cluster.core.routing.query import Case

PREFILL_FLOOR_TOKENS = 2048
"""Prompts shorter than one prefill step's worth of tokens (vLLM's default max_num_batched_tokens) count as one step:
differences below it cost nobody time."""


class ScorerName(StrEnum):
    """The scorers, as explanations name them."""

    PREFILL = "prefill"
    QUEUE = "queue"
    KV = "kv"
    SESSION = "session"
    ADAPTER = "adapter"
    PREFIX = "prefix"
    TURN = "turn"


class Scorer(Protocol):
    """One view of what makes an endpoint good."""

    @property
    def name(self) -> ScorerName:
        """What explanations call it."""
        ...

    def applies(self, case: Case, /) -> bool:
        """Whether it can tell candidates apart for this request; where not, its weight does not count."""
        ...

    def scores(self, case: Case, members: Sequence[Member], /) -> list[float]:
        """One score in [0, 1] for each of `members`, in their order."""
        ...


class PrefillScorer:
    """Remaining prefill work: prompt tokens it has to compute or fetch, plus what the endpoint has still to compute.

    s / (s + work), with s the prompt's own length but at least `PREFILL_FLOOR_TOKENS`: work is weighed against the
    request's own, so a short one keeps off an endpoint that reads 200,000 tokens, and a long one minds 2,000 little.
    """

    name = ScorerName.PREFILL

    def applies(self, _: Case) -> bool:
        """As `Scorer` says."""
        return True

    def scores(self, case: Case, members: Sequence[Member]) -> list[float]:
        """As `Scorer` says."""
        prompt_tokens = case.query.need.expected_prompt_tokens
        scale = float(max(prompt_tokens, PREFILL_FLOOR_TOKENS))
        saved = case.query.saved
        if not saved:
            own = scale + prompt_tokens
            return [scale / (own + member.prefill_tokens) for member in members]
        return [
            scale / (scale + max(prompt_tokens - saved.get(member.endpoint.replica_id, 0), 0) + member.prefill_tokens)
            for member in members
        ]


class QueueScorer:
    """Running and waiting requests against capacity: 1 when idle, one half when full, falling further with a queue.

    c / (c + load + waiting): what waits counts twice, for it says that the batch is full whatever the count says.
    """

    name = ScorerName.QUEUE

    def applies(self, _: Case) -> bool:
        """As `Scorer` says."""
        return True

    def scores(self, _: Case, members: Sequence[Member]) -> list[float]:
        """As `Scorer` says."""
        return [
            (slots := member.endpoint.capacity or ASSUMED_CAPACITY) / (slots + member.load + member.endpoint.waiting)
            for member in members
        ]


class KvScorer:
    """The share of the KV cache that is free."""

    name = ScorerName.KV

    def applies(self, _: Case) -> bool:
        """As `Scorer` says."""
        return True

    def scores(self, _: Case, members: Sequence[Member]) -> list[float]:
        """As `Scorer` says."""
        return [min(max(1.0 - member.endpoint.kv_use_ratio, 0.0), 1.0) for member in members]


class SessionScorer:
    """1 for the endpoint that the session belongs to, else 0."""

    name = ScorerName.SESSION

    def applies(self, case: Case) -> bool:
        """As `Scorer` says."""
        return bool(case.session_homes)

    def scores(self, case: Case, members: Sequence[Member]) -> list[float]:
        """As `Scorer` says."""
        homes = case.session_homes
        return [1.0 if member in homes else 0.0 for member in members]


class AdapterScorer:
    """1 where the LoRA adapter is loaded, else 0."""

    name = ScorerName.ADAPTER

    def applies(self, case: Case) -> bool:
        """As `Scorer` says."""
        return case.query.adapter is not None

    def scores(self, case: Case, members: Sequence[Member]) -> list[float]:
        """As `Scorer` says."""
        adapter = case.query.adapter
        return [1.0 if adapter in member.endpoint.adapters else 0.0 for member in members]


class PrefixScorer:
    """The share of the prompt that is resident there, or fetched at less than what computing takes."""

    name = ScorerName.PREFIX

    def applies(self, case: Case) -> bool:
        """As `Scorer` says."""
        return bool(case.query.resident or case.query.fetches)

    def scores(self, case: Case, members: Sequence[Member]) -> list[float]:
        """As `Scorer` says."""
        saved = case.query.saved
        prompt_tokens = max(case.query.need.expected_prompt_tokens, 1)
        return [min(max(saved.get(member.endpoint.replica_id, 0), 0) / prompt_tokens, 1.0) for member in members]
