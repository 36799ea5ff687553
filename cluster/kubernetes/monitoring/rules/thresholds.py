"""The numbers of alerts that an operator may replace, by the names they have in the chart's values.

Dashboards draw them as lines. What must not live here: expressions.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """One number."""

    value: float
    of: str
    """What it limits, as docs/monitoring.md lists it."""

    @property
    def text(self) -> str:
        """As PromQL has it: no fraction where there is none."""
        return f"{self.value:.10g}"


THRESHOLDS: dict[str, Threshold] = {
    "error_budget_ratio": Threshold(value=0.005, of="share of requests that may fail"),
    "error_budget_requests": Threshold(value=20, of="requests in the window below which nothing is judged"),
    "broken_ratio": Threshold(value=0.005, of="broken answers"),
    "attempts_failing_ratio": Threshold(value=0.05, of="failed attempts"),
    "ttft_base_s": Threshold(value=5, of="first token, for the shortest prompt"),
    "ttft_tokens_per_s": Threshold(value=2000, of="prompt tokens a second that prefill must reach under load"),
    "queue_wait_s": Threshold(value=5, of="waiting in the gateway"),
    "overload_ratio": Threshold(value=0.02, of="refused for lack of capacity"),
    "decision_s": Threshold(value=0.005, of="one routing decision"),
    "suspect_ratio": Threshold(value=0.3, of="suspect endpoints of a pool"),
    "flapping_changes": Threshold(value=8, of="changes in half an hour"),
    "kv_use_ratio": Threshold(value=0.9, of="KV cache in use"),
    "preemptions_per_s": Threshold(value=0.1, of="preemptions in a pool"),
    "directory_age_s": Threshold(value=30, of="age of the leases"),
    "usage_pending_bytes": Threshold(value=16 * 2**20, of="usage on disk"),
    "prediction_ratio": Threshold(value=0.05, of="wrong predictions"),
    "autoscaler_age_s": Threshold(value=60, of="age of autoscaling's last decision"),
}
