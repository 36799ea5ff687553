"""What was tried for one request so far, and whether there is another try.

What must not live here: choosing endpoints, sending.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.config import LimitsSection
from cluster.core import wire
from cluster.core.lease import PoolName, ReplicaId
from cluster.core.routing import Choice, Decision
from services.gateway.outcome import Failed, Overloaded
from services.gateway.upstream import FailureKind, UpstreamAnswer, UpstreamFailure

MAX_RESETS = 2
"""A request under which two engines broke off is not given a third: it may be what breaks them."""
MAX_REFUSALS = 4
"""Pools that may refuse one request as too long for them. Each knows the exact length from then on, so the second
choice normally holds; more means replicas and configuration disagree."""
MAX_TURNED_AWAY = 32
"""Replicas that may turn a request away as full one after another, without a wait between. Each counts as full then, so
only a pool of more of them, all asked too late, ends here; what comes after a wait is bounded by `limits.queue_s`."""
OVERLOAD_STATUSES = frozenset({429, 503})
RETRY_AFTER_S = 1
"""Where an overloaded endpoint names no time: about one short answer."""
MAX_RETRY_AFTER_S = 60
_NOBODY: frozenset[ReplicaId] = frozenset()


class Attempts:
    """One request's tries."""

    __slots__ = (
        "_avoided", "_refusals", "_refused", "_resets", "_turned_away", "_turned_away_now", "last", "sent", "tried",
        "waited_s",
    )  # fmt: skip

    def __init__(self, avoided: frozenset[ReplicaId] = _NOBODY) -> None:
        """Begin.

        Args:
            avoided: endpoints that are not asked, though they did not fail: another one is no further attempt then.
        """
        self._avoided = self.tried = avoided
        """Endpoints that failed or were busy."""
        self._refused: dict[PoolName, int] = {}
        self.sent = 0
        self._resets = 0
        self._refusals = 0
        self._turned_away = 0
        self._turned_away_now = 0
        """Of those, since it waited or somebody failed."""
        self.waited_s = 0.0
        """In line, since somebody failed."""
        self.last: Overloaded | Failed | None = None
        """How the latest try ended, unless it was a refusal as too long."""

    @property
    def is_retry(self) -> bool:
        """Whether the next try comes after a failed one; one after a refusal as too long, or as full, is no retry."""
        return self.tried != self._avoided and self._turned_away_now == 0

    @property
    def was_turned_away(self) -> bool:
        """Whether a replica that should have had a place had none."""
        return self._turned_away > 0

    def next(self, decision: Decision) -> Choice | None:
        """The first choice that was neither tried nor refused this request with as much output."""
        first = decision.first
        if not self._refused and first.endpoint.replica_id not in self.tried:
            return first
        for choice in decision.choices:
            refused_tokens = self._refused.get(choice.endpoint.pool)
            if refused_tokens is not None and choice.output_tokens >= refused_tokens:
                continue
            if choice.endpoint.replica_id not in self.tried:
                return choice
        return None

    def are_over(self, limits: LimitsSection) -> bool:
        """Whether there is no other try, whoever is left."""
        return (
            self.sent - self._refusals - self._turned_away >= limits.attempts
            or self._turned_away_now >= MAX_TURNED_AWAY
            or self._resets >= MAX_RESETS
            or self._refusals >= MAX_REFUSALS
            or (isinstance(self.last, Failed) and self.last.kind is FailureKind.TIMEOUT)
        )

    def failed(self, choice: Choice, failure: UpstreamFailure) -> None:
        """A try ended without an answer."""
        self.tried |= {choice.endpoint.replica_id}
        self.waited_s, self._turned_away_now = 0.0, 0
        self._resets += failure.kind is FailureKind.RESET
        self.last = Failed(kind=failure.kind, pool=choice.endpoint.pool, attempts=self.sent)

    def overloaded(self, choice: Choice, answer: UpstreamAnswer) -> None:
        """An endpoint has too much to do."""
        self.tried |= {choice.endpoint.replica_id}
        retry_after_s = _retry_after_s(answer.headers)
        self.last = Overloaded(status=answer.status, retry_after_s=retry_after_s, attempts=self.sent)

    def turned_away(self, answer: UpstreamAnswer) -> None:
        """A replica was full before this request came: others were faster. It does not count as an attempt."""
        self._turned_away += 1
        self._turned_away_now += 1
        if self._turned_away_now >= MAX_TURNED_AWAY:
            self.last = Overloaded(
                status=answer.status, retry_after_s=_retry_after_s(answer.headers), attempts=self.sent
            )

    def waited(self, seconds: float) -> None:
        """It stood in line."""
        self.waited_s += seconds
        self._turned_away_now = 0

    def refused_by(self, choice: Choice) -> None:
        """A replica found the request too long for its pool."""
        pool = choice.endpoint.pool
        self._refusals += 1
        self._refused[pool] = min(choice.output_tokens, self._refused.get(pool, choice.output_tokens))


def is_passed_over(answer: UpstreamAnswer) -> bool:
    """Whether an answer only says that somebody else should give one."""
    return answer.status in OVERLOAD_STATUSES or answer.headers.get(wire.HEADER_REFUSAL) == wire.REFUSAL_CONTEXT


def _retry_after_s(headers: Mapping[str, str]) -> int:
    told = headers.get("retry-after", "")
    return min(int(told), MAX_RETRY_AFTER_S) if told.isascii() and told.isdigit() else RETRY_AFTER_S
