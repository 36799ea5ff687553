"""What the gateway counts, in a Prometheus registry of its own.

Label values come from enums and the configuration, never from clients, so their number is bounded. What must not live
here: logs, decisions.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cluster.core.lease import PoolName
from cluster.core.request import Route
from services.gateway.directory import EndpointState

LATENCY_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
"""From a cache hit's first token to the prefill of a million tokens."""
PROMPT_BUCKETS_TOKENS = (128, 512, 2_048, 8_192, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576)
"""The usual context limits, so that a histogram shows where pool boundaries could lie."""
NO_POOL = "none"
"""The pool label of requests that reached none."""


class Metrics:
    """The gateway's counters, gauges and histograms."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "longreach_requests",
            "Requests by how they ended",
            ["route", "pool", "outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "longreach_request_seconds",
            "From a request's last byte in to its answer's last byte out",
            ["route", "pool"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._first_byte = Histogram(
            "longreach_first_byte_seconds",
            "From a request's last byte in to its answer's first byte (time to first token of a stream)",
            ["route", "pool"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._prompt = Histogram(
            "longreach_prompt_tokens",
            "Prompt length as the gateway counted it (upper bounds and estimates included)",
            ["pool"],
            buckets=PROMPT_BUCKETS_TOKENS,
            registry=self.registry,
        )
        self._attempts = Counter(
            "longreach_attempts", "Requests sent to endpoints, by result", ["pool", "result"], registry=self.registry
        )
        self._broken = Counter(
            "longreach_broken_answers", "Answers that broke off under way", ["pool", "kind"], registry=self.registry
        )
        self._in_flight = Gauge("longreach_in_flight", "Requests being served", registry=self.registry)
        self._endpoints = Gauge(
            "longreach_endpoints", "Known endpoints by state", ["pool", "state"], registry=self.registry
        )
        self._age = Gauge(
            "longreach_directory_age_seconds", "Since the leases were last read; -1: never", registry=self.registry
        )

    def attempt(self, pool: PoolName, result: str) -> None:
        """Count one request sent to an endpoint; `result` is a FailureKind or one of the few words of dispatch."""
        self._attempts.labels(pool, result).inc()

    def broken(self, pool: PoolName, kind: str) -> None:
        """Count an answer that broke off after its first byte."""
        self._broken.labels(pool, kind).inc()

    def started(self) -> None:
        """A request is being served."""
        self._in_flight.inc()

    def ended(self, route: Route, pool: PoolName | None, outcome: str, seconds: float) -> None:
        """A request that `started` told of has ended; `outcome` is a word from an enum."""
        self._in_flight.dec()
        label = pool or NO_POOL
        self._requests.labels(route.value, label, outcome).inc()
        self._seconds.labels(route.value, label).observe(seconds)

    def answered(self, route: Route, pool: PoolName, prompt_tokens: int, seconds: float) -> None:
        """The first byte of an answer is here, this long after the request was."""
        self._first_byte.labels(route.value, pool).observe(seconds)
        self._prompt.labels(pool).observe(prompt_tokens)

    def render(self, states: Mapping[PoolName, Mapping[EndpointState, int]], age_s: float | None) -> bytes:
        """The Prometheus text, with the directory as it stands now."""
        self._endpoints.clear()
        for pool, counts in states.items():
            for state, count in counts.items():
                self._endpoints.labels(pool, state.value).set(count)
        self._age.set(-1 if age_s is None else age_s)
        return generate_latest(self.registry)
