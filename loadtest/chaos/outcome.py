"""What one fault cost: sums over the answers, and what an operator saw.

What must not live here: running it (bench.py), tables (report.py).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtest.chaos.answer import Answer, End
from loadtest.chaos.judge import Verdict, judge
from loadtest.chaos.kinds import KINDS

EXAMPLES_MAX = 5
FAILINGS = ("lost", "refused", "wrong", "missing_tokens", "duplicated_tokens", "invalid_json")
"""Each counts something that should not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One fault, over and judged."""

    fault: str
    requests: int = 0
    lost: int = 0
    refused: int = 0
    wrong: int = 0
    missing_tokens: int = 0
    duplicated_tokens: int = 0
    invalid_json: int = 0
    asked_again: int = 0
    """Requests whose client needed more than one try."""
    longest_gap_s: float = 0.0
    """Between two pieces of an answer that was complete in the end."""
    usual_gap_s: float = 0.0
    """The longest before the fault."""
    ttft_p95_s: float = 0.0
    """Time to the first token, of requests sent once the fault was made; of whole answers, to their end."""
    usual_ttft_p95_s: float = 0.0
    """Of those sent before."""
    recovered_s: float = 0.0
    """From the fault to the last missing replica's first lease, or what else was broken being back."""
    seen: Sequence[str] = ()
    """Metrics of the gateway that moved, and warnings in its log."""
    examples: Sequence[str] = ()
    """Of what was not right."""
    missed: Sequence[str] = ()
    """Targets beside the counts that were not met, in words."""
    failed: str = ""
    """Why it came to no end; then there are no figures."""
    skipped: str = ""
    """Why it could not be made here; then there are no figures."""

    @property
    def is_clean(self) -> bool:
        """Whether no client had to notice anything but a pause, or asking again where that is how it goes."""
        return not self.failed and not any(getattr(self, name) for name in FAILINGS)

    def row(self) -> dict[str, Any]:
        """As data."""
        return asdict(self) | {"is_clean": self.is_clean}


def outcome_of(
    fault: str,
    answers: Sequence[Answer],
    expected: Mapping[str, Answer],
    *,
    broken_s: float,
    recovered_s: float,
    seen: Sequence[str],
    missed: Sequence[str] = (),
) -> Outcome:
    """Judge every answer.

    Args:
        fault: its name.
        answers: of the whole run of load.
        expected: undisturbed, by kind.
        broken_s: when the fault was made, on the answers' clock.
        recovered_s: how long it lasted.
        seen: by the operator.
        missed: of the fault's own targets.
    """
    kinds = {kind.name: kind for kind in KINDS}
    verdicts = [(answer, judge(answer, expected[answer.kind], kinds[answer.kind])) for answer in answers]
    complete = [answer for answer in answers if answer.end is End.COMPLETE]
    after = [answer.longest_gap_s for answer in complete if answer.longest_gap_at_s >= broken_s]
    before = [answer.longest_gap_s for answer in complete if answer.longest_gap_at_s < broken_s]
    return Outcome(
        fault=fault,
        requests=len(answers),
        lost=_count(verdicts, "lost"),
        refused=_count(verdicts, "refused"),
        wrong=_count(verdicts, "wrong"),
        missing_tokens=_count(verdicts, "missing_tokens"),
        duplicated_tokens=_count(verdicts, "duplicated_tokens"),
        invalid_json=_count(verdicts, "invalid_json"),
        asked_again=sum(answer.attempts > 1 for answer in answers),
        longest_gap_s=max(after, default=0.0),
        usual_gap_s=max(before, default=0.0),
        ttft_p95_s=_ttft_p95_s(complete, broken_s, math.inf),
        usual_ttft_p95_s=_ttft_p95_s(complete, -math.inf, broken_s),
        recovered_s=recovered_s,
        seen=tuple(seen),
        missed=tuple(missed),
        examples=_examples(verdicts),
    )


def _count(verdicts: Sequence[tuple[Answer, Verdict]], name: str) -> int:
    return sum(int(getattr(verdict, name)) for _, verdict in verdicts)


def _ttft_p95_s(answers: Sequence[Answer], since_s: float, until_s: float) -> float:
    chosen = (one for one in answers if since_s <= one.sent_s < until_s)
    times = sorted(one.first_s - one.sent_s for one in chosen if one.first_s is not None)
    return times[min(int(0.95 * len(times)), len(times) - 1)] if times else 0.0


def _examples(verdicts: Sequence[tuple[Answer, Verdict]]) -> tuple[str, ...]:
    found = Counter(f"{answer.kind}: {verdict.why}" for answer, verdict in verdicts if not verdict.is_right)
    return tuple(f"{text} ({count})" if count > 1 else text for text, count in found.most_common(EXAMPLES_MAX))
