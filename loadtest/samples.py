"""What a cluster says of itself during a run: memory and replicas, read from the gateway's admin listener.

Sizes end in `_bytes`, counts of replicas in `_replicas`: the report draws what it finds under such names. What must not
live here: sums, plots (report/).
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cluster.sockets import is_loopback

EVERY_S = 5.0
"""Memory grows slowly; a sample costs the gateway one scrape of itself and one of each replica."""
EVERY_MAX_S = 60.0
SAMPLES_MAX = 2_000
"""When there are so many, every second one is dropped and the next come half as often: long runs stay small."""
TIMEOUT_S = 10.0
REPLICAS_MAX = 16
"""Whose memory is read; more would be a load of their own."""
GATEWAY_MEMORY = "longreach_resident_memory_bytes"
REPLICA_MEMORY = "process_resident_memory_bytes"
"""Of the replica's API process; engine cores are processes of their own."""
ENDPOINTS = "longreach_endpoints"
Sample = Mapping[str, float]


def gateway_sample(text: str) -> dict[str, float]:
    """The gateway's memory, and the replicas of each pool that are ready, from its /metrics.

    Raises:
        ValueError: it is not Prometheus text.
    """
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if one.name == GATEWAY_MEMORY:
                found["gateway_bytes"] = found.get("gateway_bytes", 0.0) + one.value
            elif one.name == ENDPOINTS and one.labels.get("state") == "ready":
                found[f"{one.labels.get('pool', '')}_replicas"] = one.value
    return found


def replica_bytes(text: str) -> float | None:
    """The memory of a replica, from its own metrics; None where it does not tell.

    Raises:
        ValueError: it is not Prometheus text.
    """
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if one.name == REPLICA_MEMORY:
                return one.value
    return None


class Sampler(AbstractContextManager["Sampler"]):
    """Samples until it is left, in a thread of its own; what cannot be read is left out of a sample."""

    def __init__(self, admin_url: str, *, key: str | None, ca_file: Path | None, every_s: float = EVERY_S) -> None:
        """Say where to ask.

        Args:
            admin_url: of the gateway's admin listener.
            key: of an operator, where the gateway has keys.
            ca_file: vouches for it.
            every_s: from one sample to the next.
        """
        self._every_s = every_s
        self._taken: list[tuple[float, Sample]] = []
        self._left = threading.Event()
        self._http = httpx.Client(
            base_url=admin_url,
            timeout=TIMEOUT_S,
            headers={} if key is None else {"authorization": f"Bearer {key}"},
            verify=True if ca_file is None else ssl.create_default_context(cafile=ca_file),
            trust_env=not is_loopback(urlsplit(admin_url).hostname or ""),
        )
        self._thread = threading.Thread(target=self._sample, name="samples", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; a sample under way is waited for."""
        self._left.set()
        self._thread.join()
        self._http.close()

    def since(self, begun: str) -> Sequence[Sample]:
        """What was sampled, with `at_s` since a moment in ISO 8601."""
        begin_s = datetime.fromisoformat(begun).timestamp()
        return [{"at_s": at_s - begin_s, **sample} for at_s, sample in self._taken if at_s >= begin_s]

    def _sample(self) -> None:
        while not self._left.is_set():
            if found := self._read():
                self._taken.append((time.time(), found))
            if len(self._taken) > SAMPLES_MAX:
                del self._taken[1::2]
                self._every_s = min(2 * self._every_s, EVERY_MAX_S)
            self._left.wait(self._every_s)

    def _read(self) -> dict[str, float]:
        found: dict[str, float] = {}
        try:
            found = gateway_sample(self._text("/metrics"))
            targets = self._http.get("/sd/replicas").raise_for_status().json()
            for target in targets[:REPLICAS_MAX]:
                labels = target["labels"]
                size = replica_bytes(self._text(labels["__metrics_path__"]))
                if size is not None:
                    found[f"{labels['pool']} {labels['replica']}_bytes"] = size
        # An answer of another form is no sample; the run goes on.
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            pass
        return found

    def _text(self, path: str) -> str:
        return self._http.get(path).raise_for_status().text
