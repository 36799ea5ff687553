"""ramp: to saturation and beyond, to find the knee.

What must not live here: finding it (loadtest/report/knee.py).
"""

from __future__ import annotations

from loadtest.scenarios.chat import EvenChat
from loadtest.scenarios.scenario import ArrivalKind, Arrivals, Scenario

RAMP = Scenario(
    name="ramp",
    sentence="Chats of one size at a growing rate, to find how many a second the service takes (its knee).",
    kind=EvenChat,
    arrivals=Arrivals(kind=ArrivalKind.RAMP, rate_per_s=0.5, to_rate_per_s=20.0, duration_s=300.0),
)
