"""How near a simulation came to what was measured.

What must not live here: measuring, simulating.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.simulator.outcome import Fate, Outcomes
from cluster.simulator.trace import Trace, TraceRequest
from loadtest.simulation.replay import Answered

BLOCK_TOKENS = 2_048
"""Of a trace without blocks: any multiple of an engine's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One figure, measured and simulated."""

    name: str
    measured: float
    simulated: float

    @property
    def error_ratio(self) -> float:
        """Simulated over measured, less 1."""
        return self.simulated / self.measured - 1


def trace_of(answered: Sequence[Answered]) -> Trace:
    """What was sent, as it was sent: the trace to simulate.

    Raises:
        ValueError: a request failed, so that there is nothing to compare.
    """
    failed = sum(not one.prompt_tokens for one in answered)
    if failed:
        raise ValueError(f"{failed} of {len(answered)} requests failed")
    return Trace(
        name="replayed",
        block_tokens=BLOCK_TOKENS,
        requests=[TraceRequest(one.sent_s, one.prompt_tokens, one.output_tokens) for one in answered],
    )


def compare(answered: Sequence[Answered], outcomes: Outcomes) -> tuple[Pair, ...]:
    """Time to the first token, time between tokens, and throughput, side by side.

    Raises:
        ValueError: the simulation did not finish every request.
    """
    if any(fate != Fate.DONE for fate in outcomes.fate):
        raise ValueError("the simulation did not finish every request")
    rows = list(outcomes)
    ttft = ([one.first_token_s - one.sent_s for one in answered], [one.ttft_s for one in rows])
    itl = (
        [(one.ended_s - one.first_token_s) / (one.output_tokens - 1) for one in answered if one.output_tokens > 1],
        [one.itl_s for one in rows if one.output_tokens > 1],
    )
    tokens = sum(one.prompt_tokens + one.output_tokens for one in answered)
    return (
        Pair(name="TTFT p50 s", measured=_quantile(ttft[0], 0.5), simulated=_quantile(ttft[1], 0.5)),
        Pair(name="TTFT p95 s", measured=_quantile(ttft[0], 0.95), simulated=_quantile(ttft[1], 0.95)),
        Pair(name="ITL p50 s", measured=_quantile(itl[0], 0.5), simulated=_quantile(itl[1], 0.5)),
        Pair(name="ITL p95 s", measured=_quantile(itl[0], 0.95), simulated=_quantile(itl[1], 0.95)),
        Pair(
            name="tokens a second",
            measured=tokens / max(one.ended_s for one in answered),
            simulated=tokens / max(one.ended_s for one in rows),
        ),
    )


def _quantile(values: Sequence[float], share: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
