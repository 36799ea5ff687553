"""Is an engine alive? From evidence about its steps, never from "HTTP answers".

The evidence is a ping that the engine core answers between two steps, and what the operating system says of its
processes while a ping is open. What must not live here: clocks, processes, the ping itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SUSPECT_S = 2.0
"""A ping open for this long is worth looking into; most steps are shorter."""
STOPPED_S = 2.0
"""Open this long while a process of the engine is stopped or gone: it will not come back by itself."""
IDLE_S = 6.0
"""Open this long while no process of the engine used any CPU, or waited for some: frozen, not busy."""


class Health(StrEnum):
    """What the evidence says."""

    ALIVE = "alive"
    BUSY = "busy"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known at one moment."""

    ping_age_s: float
    """How long the oldest unanswered ping is open; 0 when all are answered."""
    stopped: bool
    """Whether a process of the engine is stopped, a zombie or gone."""
    idle_s: float
    """How long the engine's processes together used no CPU time, and none waited for a core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judgement and its reason, in words for `longreach status`."""

    health: Health
    reason: str


def judge(evidence: Evidence, *, stall_s: float) -> Verdict:
    """Judge `evidence`; `stall_s` is the longest a single step may take on this hardware."""
    age = evidence.ping_age_s
    if evidence.stopped and age >= STOPPED_S:
        return Verdict(health=Health.STALLED, reason=f"an engine process is stopped or gone, no step for {age:.1f} s")
    if age >= stall_s:
        return Verdict(health=Health.STALLED, reason=f"no step for {age:.1f} s, limit {stall_s:g} s")
    if age >= IDLE_S and evidence.idle_s >= IDLE_S:
        return Verdict(health=Health.STALLED, reason=f"no step and no CPU use for {min(age, evidence.idle_s):.1f} s")
    if age >= SUSPECT_S:
        return Verdict(health=Health.BUSY, reason=f"in one step for {age:.1f} s")
    return Verdict(health=Health.ALIVE, reason="steps advance")
