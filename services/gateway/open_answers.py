"""Which answers are under way, by the replica that gives them: whoever learns that it leaves finds them here.

What must not live here: what becomes of them (moves.py, resuming.py).
"""

from __future__ import annotations

from cluster.core.lease import ReplicaId
from services.gateway.resuming import ResumableAnswer
from services.gateway.upstream import UpstreamAnswer

Answer = UpstreamAnswer | ResumableAnswer


class OpenAnswers:
    """Answers whose first bytes are here and that nobody has let go of yet."""

    __slots__ = ("_answers",)

    def __init__(self) -> None:
        self._answers: dict[ReplicaId, dict[Answer, None]] = {}
        """In the order in which they came; a set has none."""

    def opened(self, replica_id: ReplicaId, answer: Answer) -> None:
        """A replica gives this answer from now on."""
        self._answers.setdefault(replica_id, {})[answer] = None

    def ended(self, replica_id: ReplicaId, answer: Answer) -> None:
        """It does so no more; an answer that is not here is none of our business."""
        answers = self._answers.get(replica_id)
        if answers is None:
            return
        answers.pop(answer, None)
        if not answers:
            del self._answers[replica_id]

    def of(self, replica_id: ReplicaId) -> tuple[Answer, ...]:
        """Those of one replica, oldest first, as of now: whoever goes through them may end them."""
        return tuple(self._answers.get(replica_id, ()))
