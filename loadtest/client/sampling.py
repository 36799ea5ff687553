"""Memory of the gateway and of replicas, and how many replicas there are, sampled beside a run.

From the gateway's admin listener: `/metrics`, `/sd/replicas`, `/replicas/ID/metrics`. What must not live here: what
follows from the samples (loadtest/report/growth.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any
from urllib.parse import quote

import httpx
from prometheus_client.parser import text_string_to_metric_families

SAMPLE_S = 5.0
"""Between two samples: autoscaling takes longer, and a scrape costs the gateway a millisecond."""
SAMPLES_MAX = 5_000
"""Longer runs are sampled less often; one without an end is sampled so often, seven hours."""
TIMEOUT_S = 4.0
REPLICAS_MAX = 64
"""Of which memory is sampled."""
MEMORY = "process_resident_memory_bytes"
"""Python's client library and others tell it by this name."""
ENDPOINTS = "longreach_endpoints"
READY = "ready"


class Sampler:
    """Samples in a thread of its own, from `start` to `end`."""

    def __init__(self, url: str, *, api_key: str | None, duration_s: float) -> None:
        """Prepare.

        Args:
            url: of the admin listener.
            api_key: of an administrator, where there are keys.
            duration_s: of the run; may be infinite.
        """
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        self._every_s = max(SAMPLE_S, duration_s / SAMPLES_MAX if isfinite(duration_s) else 0.0)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.samples: list[Mapping[str, float]] = []
        """What there is so far."""
        self.fault = ""
        """Why the last sample could not be had; empty: it was."""

    def start(self, begin_s: float) -> None:
        """Begin.

        Args:
            begin_s: the run's begin, on `time.monotonic()`.
        """
        self._thread = threading.Thread(target=self._follow, args=(begin_s,), name="sampling", daemon=True)
        self._thread.start()

    def end(self) -> Sequence[Mapping[str, float]]:
        """Stop, and give what there is: `Run.metrics`."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._http.close()
        return self.samples

    def _follow(self, begin_s: float) -> None:
        wait_s = begin_s - time.monotonic()
        while not self._over.wait(max(wait_s, 0.0)) and len(self.samples) < SAMPLES_MAX:
            at_s = time.monotonic() - begin_s
            try:
                self.samples.append({"at_s": round(at_s, 3), **self.sample()})
                self.fault = ""
            except (httpx.HTTPError, ValueError) as error:
                self.fault = str(error) or type(error).__name__
            wait_s = begin_s + at_s + self._every_s - time.monotonic()

    def sample(self) -> dict[str, float]:
        """One sample: sizes under names that end in `_bytes`, pools' ready replicas in `_replicas`.

        Raises:
            httpx.HTTPError: the listener does not answer, or refuses.
            ValueError: what it answers is no Prometheus text, or no JSON.
        """
        text = self._get("/metrics").text
        found = pools_in(text)
        own = memory_in(text)
        if own:
            found["gateway_bytes"] = own
        for replica in replicas_in(self._get("/sd/replicas").json())[:REPLICAS_MAX]:
            answer = self._http.get(f"/replicas/{quote(replica, safe='')}/metrics")
            # One that is gone since, or starts, tells nothing this time.
            size = memory_in(answer.text) if answer.is_success else 0.0
            if size:
                found[f"{replica}_bytes"] = size
        return found

    def _get(self, path: str) -> httpx.Response:
        return self._http.get(path).raise_for_status()


def memory_in(text: str) -> float:
    """Resident memory in a process's metrics, in bytes; of several processes the sum, 0 where it is not told."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == MEMORY
    )


def pools_in(text: str) -> dict[str, float]:
    """Ready replicas by pool, as the gateway sees them, under `POOL_replicas`."""
    return {
        f"{sample.labels['pool']}_replicas": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == ENDPOINTS and sample.labels.get("state") == READY
    }


def replicas_in(found: Any) -> list[str]:
    """Ids in what Prometheus's HTTP discovery gets."""
    targets = found if isinstance(found, list) else []
    return [one["labels"]["replica"] for one in targets if "replica" in one.get("labels", {})]
