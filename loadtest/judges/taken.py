"""What a tool measured, request by request, and the figures of it: by one formula, whichever tool it was.

So percentiles and spans mean the same for both sides; a tool's own is when it looked at its clock. What must not live
here: whose result it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

from loadtest.report.distribution import distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One answered request."""

    sent_s: float
    """On the tool's clock."""
    ttft_s: float
    """From sending to the first token."""
    decode_s: float
    """From the first to the last token."""
    prompt_tokens: int
    """As the server counted."""
    output_tokens: int
    late_s: float | None = None
    """How much later than due it was sent; None: the tool does not tell."""

    @property
    def ended_s(self) -> float:
        """When the last token was there."""
        return self.sent_s + self.ttft_s + self.decode_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A tool's run."""

    answers: Sequence[Timed]
    failed: int
    """Requests that were refused, broke off or were not answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one run; nan where nothing was measured."""

    answered: float
    failed: float
    prompt_tokens: float
    """The mean of a prompt."""
    output_tokens: float
    """The mean of an answer."""
    ttft_mean_s: float
    """From sending, as judges count; as are the next two."""
    ttft_p50_s: float
    ttft_p95_s: float
    due_ttft_p50_s: float
    """From the due time, as our reports count."""
    due_ttft_p95_s: float
    late_p95_s: float
    tpot_mean_s: float
    """From the first to the last token, over the tokens after the first."""
    tpot_p95_s: float
    output_tokens_per_s: float
    """Over the time from the first request's sending to the last token of all."""
    requests_per_s: float


def figures_of(taken: Taken) -> Figures:
    """The figures of a run."""
    answers = taken.answers
    count = len(answers)
    ttft = distribution(one.ttft_s for one in answers)
    due = distribution(one.late_s + one.ttft_s for one in answers if one.late_s is not None)
    tpot = distribution(one.decode_s / (one.output_tokens - 1) for one in answers if one.output_tokens > 1)
    span_s = max(one.ended_s for one in answers) - min(one.sent_s for one in answers) if answers else 0.0
    output = sum(one.output_tokens for one in answers)
    return Figures(
        answered=count,
        failed=taken.failed,
        prompt_tokens=sum(one.prompt_tokens for one in answers) / count if count else nan,
        output_tokens=output / count if count else nan,
        ttft_mean_s=ttft.mean,
        ttft_p50_s=ttft.p50,
        ttft_p95_s=ttft.p95,
        due_ttft_p50_s=due.p50,
        due_ttft_p95_s=due.p95,
        late_p95_s=distribution(one.late_s for one in answers if one.late_s is not None).p95,
        tpot_mean_s=tpot.mean,
        tpot_p95_s=tpot.p95,
        output_tokens_per_s=output / span_s if span_s else nan,
        requests_per_s=count / span_s if span_s else nan,
    )
