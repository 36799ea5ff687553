"""What Prometheus keeps ahead of time: the share of bad requests, over the windows that the error budget's alerts use.

What must not live here: alerts.
"""

from __future__ import annotations

from cluster.kubernetes.monitoring.rules.build import Group, Recording

WINDOWS = ("5m", "30m", "1h", "6h")
"""Two for each of two burn rates: Google's SRE workbook, alerting on SLOs, multi-window burn rate."""
WHY = (
    "Share of requests that failed or broke off for a reason of ours: 5xx, 429 for lack of room, broken, expired. A "
    "tenant over its quota gets 429 as well and is taken out."
)


def bad_ratio(window: str) -> str:
    """The recorded metric's name."""
    return f"longreach:requests_bad:ratio_rate{window}"


def _bad(window: str) -> str:
    every = f"sum by (namespace, release) (rate(longreach_requests_total{{$S}}[{window}]))"
    return f"""
    clamp_min(
      (
        sum by (namespace, release) (
          rate(longreach_requests_total{{$S, outcome=~"unavailable|broken|expired"}}[{window}])
        )
        or 0 * {every}
      )
      - (
        sum by (namespace, release) (
          rate(longreach_refused_total{{$S, reason=~"requests_per_minute|tokens_per_minute"}}[{window}])
        )
        or 0 * {every}
      ),
      0
    )
    / ({every} > 0)
    """


RECORDING = Group(
    name="longreach-recording",
    interval="30s",
    rules=tuple(
        Recording(name=bad_ratio(window), why=WHY if window == WINDOWS[0] else "", expr=_bad(window))
        for window in WINDOWS
    ),
)
