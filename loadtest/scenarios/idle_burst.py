"""idle-burst: nothing for a while, then many requests at once, as autoscaling has to cope with.

What must not live here: autoscaling itself.
"""

from __future__ import annotations

from loadtest.scenarios.chat import Chat
from loadtest.scenarios.scenario import ArrivalKind, Arrivals, Scenario

IDLE_S = 600.0
"""Longer than a pool's default time without a request before it goes to none."""

IDLE_BURST = Scenario(
    name="idle-burst",
    sentence="Many chats at once, nothing for ten minutes, again: how fast pools grow from none or from their least.",
    kind=Chat,
    arrivals=Arrivals(kind=ArrivalKind.BURSTS, rate_per_s=0.1, idle_s=IDLE_S, duration_s=1_800.0),
)
