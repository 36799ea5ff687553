"""Runs of gRPC streams become rows: figures of each, and how the gateway's compare with the bare server's around it.

Figures, by their name in the JSON: `messages_s` (tokens delivered a second, however many came in one message of
gRPC's), `cpu_us_per_message` (the server's), `ratio` and `cpu_ratio` (these two against the bare server's just before
and just after), `tokens_per_grpc_message`, `server_core_ratio` and `load_core_ratio` (how much of its core the server
used, and how busy the other core was, with whatever else ran there), `ttft_p50_ms` and `_p99_ms`, and `added_` in
front of these where tokens come at a pace. What must not live here: measuring, drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean

from loadtest.bench.load import LoadResult
from loadtest.bench.measure import RATE_MIN, US_PER_S, Sample
from loadtest.bench.results import Row, row_of

BARE, OURS = "bare", "longreach"
BURST, FULL, PACED = "", "-full", "-paced"
"""Loads, by what they add to a row's name."""
HEADLINES = ("messages_s", "cpu_us_per_message", "ratio")
"""Always in the JSON."""
_RATIOS = {"messages_s": "ratio", "cpu_us_per_message": "cpu_ratio"}
_TTFT = ("ttft_p50_ms", "ttft_p99_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One load on one server."""

    load: LoadResult
    took_s: float
    server_cpu_s: float
    load_busy_s: float
    """How long the core of client and engines had work."""

    def sample(self) -> Sample:
        """Its own figures."""
        load = self.load
        sample = Sample(
            figures={
                "messages_s": load.chunks_s,
                "cpu_us_per_message": self.server_cpu_s * US_PER_S / max(load.chunks, 1),
                "tokens_per_grpc_message": load.chunks / max(load.messages, 1),
                "server_core_ratio": self.server_cpu_s / self.took_s,
                "load_core_ratio": self.load_busy_s / self.took_s,
                "ttft_p50_ms": load.ttft.p50_ms,
                "ttft_p99_ms": load.ttft.p99_ms,
            }
        )
        sample.count(load)
        return sample


@dataclass(slots=True, kw_only=True)
class Rounds:
    """What was found, as it comes in."""

    samples: dict[str, list[Sample]] = field(
        default_factory=lambda: {f"{side}{kind}": [] for kind in (BURST, FULL, PACED) for side in (BARE, OURS)}
    )

    def add(self, kind: str, ours: Measured, around: Sequence[Measured]) -> None:
        """Add one load of a round: the gateway's run, and the bare server's before and after it."""
        bares, sample = [bare.sample() for bare in around], ours.sample()

        def bare(key: str) -> float:
            return mean(one.figures[key] for one in bares)

        for key, ratio in _RATIOS.items():
            beside = max(bare(key), RATE_MIN)
            for one in (*bares, sample):
                one.figures[ratio] = one.figures[key] / beside
        if kind != BURST:
            # A burst is one long queue: who answers in larger pieces is waited for longer, and gets less behind.
            sample.figures |= {f"added_{key}": sample.figures[key] - bare(key) for key in _TTFT}
        self.samples[f"{BARE}{kind}"] += bares
        self.samples[f"{OURS}{kind}"].append(sample)

    def rows(self) -> tuple[Row, ...]:
        """One for each server and load."""
        return tuple(row_of(name, samples) for name, samples in self.samples.items())


def noise(rows: Sequence[Row]) -> float:
    """How far the bare server's bursts lie apart, as (largest - smallest) / median: this machine, not the servers."""
    row = next(row for row in rows if row.name == BARE)
    low, high = row.spread["messages_s"]
    return (high - low) / max(row.figures["messages_s"], RATE_MIN)
