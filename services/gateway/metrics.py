"""What one worker counts: plain tallies on the hot path, which become Prometheus text only when somebody asks.

An update is one dictionary entry: a labelled child of prometheus_client costs some 2 µs, and a request makes a dozen.
What must not live here: names (metric_specs.py), the text (exposition.py), logs, decisions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest

from cluster.core.autoscaling.record import AutoscaleRecord
from cluster.core.autoscaling.target import Bound
from cluster.core.lease import PoolName
from cluster.core.outcome import ReplicaOutcome
from cluster.core.request import Route
from cluster.core.tenant import DEFAULT_TENANT, Priority, TenantName
from cluster.core.usage import OTHER
from services.gateway import metric_specs as names
from services.gateway.catalog import ServedModel
from services.gateway.directory import EndpointState
from services.gateway.exposition import Snapshot, SnapshotCollector
from services.gateway.histogram import Histogram
from services.gateway.metric_kinds import CounterSpec, GaugeSpec, Labels
from services.gateway.metric_labels import Moved, PromptCounted, Repeated, Resumed, ResumeStage
from services.gateway.zeros import NO_POOL, zeros


class Metrics:
    """One worker's counters, gauges and histograms. Every method is for the event loop's thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(SnapshotCollector(self.snapshot))
        self._in_flight = 0
        self._tenants: frozenset[str] = frozenset({DEFAULT_TENANT})
        self._revisions: frozenset[str] = frozenset()
        self._requests = _counter()
        self._attempts = _counter()
        self._resumes = _counter()
        self._moves = _counter()
        self._repeats = _counter()
        self._broken = _counter()
        self._tokens = _counter()
        self._tenant_tokens = _counter()
        self._tenant_requests = _counter()
        self._tenant_refused = _counter()
        self._spilled = _counter()
        self._revision_requests = _counter()
        self._refused = _counter()
        self._prompt_counts = _counter()
        self._usage_dropped = 0
        self._cpu_s = 0.0
        self._seconds = Histogram(names.SECONDS)
        self._first_byte = Histogram(names.FIRST_BYTE)
        self._revision_first_byte = Histogram(names.REVISION_FIRST_BYTE)
        self._tenant_first_byte = Histogram(names.TENANT_FIRST_BYTE)
        self._prompt = Histogram(names.PROMPT)
        self._admission_wait = Histogram(names.ADMISSION_WAIT)
        self._resume = Histogram(names.RESUME)
        self._decision = Histogram(names.DECISION)
        self._cached_error = Histogram(names.CACHED_ERROR)
        self._queue: dict[Labels, float] = {}
        self._held: dict[Labels, float] = {}
        self._replicas: dict[Labels, float] = {}
        self._bounds: dict[Labels, float] = {}
        self._startup_s: dict[Labels, float] = {}
        self._pinned: dict[Labels, float] = {}
        self._decided_age_s: dict[Labels, float] = {}
        self._boundaries: dict[Labels, float] = {}
        self._context_tokens: dict[Labels, float] = {}
        self._endpoints: dict[Labels, float] = {}
        self._resident_chunks = 0
        self._memory_bytes = 0
        self._version = "unknown"
        self._age_s = -1.0
        self._usage_pending_bytes = 0
        self.spans: Callable[[], Mapping[str, int]] = dict
        """Asked what became of spans."""

    def use_tenants(self, tenants: Collection[TenantName]) -> None:
        """The tenants of the configuration, which have series of their own; at the start and after a reload."""
        self._tenants = frozenset({DEFAULT_TENANT, *tenants})

    def use_revisions(self, revisions: Collection[str]) -> None:
        """The revisions of the configuration, which have series of their own; at the start and after a reload."""
        self._revisions = frozenset(revisions)

    def use_models(self, models: Iterable[ServedModel]) -> None:
        """The pools of the configuration; at the start and after a reload.

        Counters that only a fault or a rare event moves begin at zero: an alert sees no increase from nothing to 1.
        """
        served = tuple(models)
        self._context_tokens = {(pool.name,): pool.context_tokens for model in served for pool in model.pools}
        counters = self._counters()
        for spec, labels in zeros(served, self._tenants):
            counters[spec].setdefault(labels, 0)
        for pool in self._context_tokens:
            self._admission_wait.touch(pool)
            for stage in ResumeStage:
                self._resume.touch((*pool, stage.value))
        for tier in ("replica", "redis"):
            self._cached_error.touch((tier,))

    def attempt(self, pool: PoolName, result: str) -> None:
        """Count one request sent to an endpoint; `result` is a FailureKind or one of the few words of dispatch."""
        self._attempts[pool, result] += 1

    def resumed(self, pool: PoolName, result: Resumed) -> None:
        """Count a cut stream: how it was gone on with, or why it was not."""
        self._resumes[pool, result.value] += 1

    def went_on(self, pool: PoolName, *, place_s: float, redo_s: float) -> None:
        """A cut stream goes on, after so long."""
        self._resume.observe((pool, ResumeStage.PLACE.value), place_s)
        self._resume.observe((pool, ResumeStage.REDO.value), redo_s)

    def moved(self, pool: PoolName, why: Moved, result: Resumed) -> None:
        """Count a stream that was to move: how another replica went on with it, or that none did."""
        self._moves[pool, why.value, result.value] += 1

    def repeated(self, result: Repeated, count: int = 1) -> None:
        """Count what became of a request with a key, or of its answer."""
        self._repeats[result.value,] += count

    def broken(self, pool: PoolName, kind: str) -> None:
        """Count an answer that broke off after its first byte."""
        self._broken[pool, kind] += 1

    def started(self) -> None:
        """A request is being served."""
        self._in_flight += 1

    def ended(self, route: Route, pool: PoolName | None, outcome: str, seconds: float) -> None:
        """A request that `started` told of has ended; `outcome` is a word from an enum."""
        self._in_flight -= 1
        label = pool or NO_POOL
        self._requests[route, label, outcome] += 1
        self._seconds.observe((route, label), seconds)

    def answered(self, route: Route, pool: PoolName, prompt_tokens: int, seconds: float) -> None:
        """The first byte of an answer is here, this long after the request was."""
        self._first_byte.observe((route, pool), seconds)
        self._prompt.observe((pool,), prompt_tokens)

    def revision(self, pool: PoolName, revision: str, outcome: str, first_byte_s: float) -> None:
        """A replica that has a revision answered, and how that ended; for comparing a canary with the rest."""
        label = revision if revision in self._revisions else OTHER
        self._revision_requests[pool, label, outcome] += 1
        self._revision_first_byte.observe((pool, label), first_byte_s)

    def used(self, pool: PoolName, model: str, tenant: TenantName, outcome: ReplicaOutcome) -> None:
        """What an engine reported of an answer; `model` is a name from the configuration."""
        prompt, cached, output = outcome.prompt_tokens, outcome.cached_tokens, outcome.output_tokens
        tokens = self._tokens
        tokens["prompt", pool, model] += prompt
        tokens["cached", pool, model] += cached
        tokens["output", pool, model] += output
        label = tenant if tenant in self._tenants else OTHER
        tokens = self._tenant_tokens
        tokens[label, "prompt"] += prompt
        tokens[label, "cached"] += cached
        tokens[label, "output"] += output

    def of_tenant(self, tenant: TenantName, outcome: str, refusal: str, first_byte_s: float | None) -> None:
        """A request of this tenant has ended; `refusal` is empty where the gateway did not refuse it."""
        label = tenant if tenant in self._tenants else OTHER
        self._tenant_requests[label, outcome] += 1
        if refusal:
            self._tenant_refused[label, refusal] += 1
        if first_byte_s is not None:
            self._tenant_first_byte.observe((label,), first_byte_s)

    def predicted(self, predicted_tokens: int, actual_tokens: int, *, is_from_redis: bool) -> None:
        """Cached tokens as routing expected, some perhaps from Redis, and as the engine found them."""
        self._cached_error.observe(("redis" if is_from_redis else "replica",), predicted_tokens - actual_tokens)

    def admitted(self, pool: PoolName, wait_s: float) -> None:
        """A request got its slot after this wait."""
        self._admission_wait.observe((pool,), wait_s)

    def decided(self, seconds: float) -> None:
        """A routing decision took this long."""
        self._decision.observe((), seconds)

    def counted(self, how: PromptCounted) -> None:
        """A prompt's length was found out this way."""
        self._prompt_counts[how,] += 1

    def spilled(self, from_pool: PoolName, to_pool: PoolName) -> None:
        """A request went to a larger pool because its own was saturated."""
        self._spilled[from_pool, to_pool] += 1

    def refused(self, reason: str) -> None:
        """The gateway itself refused a request; `reason` is a word from an enum."""
        self._refused[reason,] += 1

    def queue_length(self, priority: Priority, length: int) -> None:
        """So many requests of this class wait now."""
        self._queue[priority.name.lower(),] = length

    def held(self, requests: Mapping[PoolName, int]) -> None:
        """So many requests that belong to each pool wait now; none where a pool is not named."""
        self._held = dict.fromkeys(self._context_tokens, 0.0) | {(pool,): count for pool, count in requests.items()}

    def autoscaling(self, records: Mapping[PoolName, AutoscaleRecord], now_s: float) -> None:
        """The latest decisions; `now_s` since the epoch."""
        self._replicas = {
            (pool, kind): value
            for pool, record in records.items()
            for kind, value in (
                ("decided", record.decision.replicas),
                ("needed_now", record.decision.needed_now),
                ("needed_ahead", record.decision.needed_ahead),
                ("ready", record.demand.ready),
                ("starting", record.demand.starting),
                ("min", record.min_replicas),
                ("max", record.max_replicas),
            )
        }
        self._bounds = {
            (pool, bound): float(record.decision.bound is bound) for pool, record in records.items() for bound in Bound
        }
        self._startup_s = {
            (pool,): record.demand.startup_s for pool, record in records.items() if record.demand.startup_s is not None
        }
        self._pinned = {(pool,): float(record.pinned is not None) for pool, record in records.items()}
        self._decided_age_s = {(pool,): max(now_s - record.written_s, 0.0) for pool, record in records.items()}

    def boundaries(self, tokens: Mapping[PoolName, int]) -> None:
        """Up to which length each pool is preferred whose boundary follows the traffic."""
        self._boundaries = {(pool,): value for pool, value in tokens.items()}

    def usage(self, pending_bytes: int, dropped_records: int) -> None:
        """How the usage journal stands; `dropped_records` since the start."""
        self._usage_pending_bytes = pending_bytes
        self._usage_dropped = dropped_records

    def directory(self, states: Mapping[PoolName, Mapping[EndpointState, int]], age_s: float | None) -> None:
        """The directory as it stands now; `age_s` is None where the leases were never read."""
        self._endpoints = {(pool, state): count for pool, counts in states.items() for state, count in counts.items()}
        self._age_s = -1.0 if age_s is None else age_s

    def residency(self, chunks: int) -> None:
        """So many chunks are known to be in replicas' caches."""
        self._resident_chunks = chunks

    def process(self, version: str, cpu_s: float, memory_bytes: int) -> None:
        """What runs here, the CPU time it has used since its start, and the memory it has."""
        self._version = version
        self._cpu_s = cpu_s
        self._memory_bytes = memory_bytes

    def _counters(self) -> dict[CounterSpec, defaultdict[Labels, float]]:
        return {
            names.REQUESTS: self._requests,
            names.ATTEMPTS: self._attempts,
            names.RESUMES: self._resumes,
            names.MOVES: self._moves,
            names.REPEATS: self._repeats,
            names.BROKEN: self._broken,
            names.TOKENS: self._tokens,
            names.TENANT_TOKENS: self._tenant_tokens,
            names.TENANT_REQUESTS: self._tenant_requests,
            names.TENANT_REFUSED: self._tenant_refused,
            names.SPILLED: self._spilled,
            names.REVISION_REQUESTS: self._revision_requests,
            names.REFUSED: self._refused,
            names.PROMPT_COUNTS: self._prompt_counts,
        }

    def snapshot(self) -> Snapshot:
        """A copy of every tally, which later updates do not change."""
        counters: dict[CounterSpec, Mapping[Labels, float]] = {
            **self._counters(),
            names.CPU: {(): self._cpu_s},
            names.USAGE_DROPPED: {(): self._usage_dropped},
            names.SPANS: {(result,): count for result, count in self.spans().items()},
        }
        histograms = {
            names.SECONDS: self._seconds,
            names.FIRST_BYTE: self._first_byte,
            names.REVISION_FIRST_BYTE: self._revision_first_byte,
            names.TENANT_FIRST_BYTE: self._tenant_first_byte,
            names.PROMPT: self._prompt,
            names.ADMISSION_WAIT: self._admission_wait,
            names.RESUME: self._resume,
            names.DECISION: self._decision,
            names.CACHED_ERROR: self._cached_error,
        }
        gauges: dict[GaugeSpec, Mapping[Labels, float]] = {
            names.IN_FLIGHT: {(): self._in_flight},
            names.QUEUE: self._queue,
            names.HELD: self._held,
            names.AUTOSCALE_REPLICAS: self._replicas,
            names.AUTOSCALE_BOUND: self._bounds,
            names.AUTOSCALE_STARTUP: self._startup_s,
            names.AUTOSCALE_PINNED: self._pinned,
            names.AUTOSCALE_AGE: self._decided_age_s,
            names.BOUNDARY: self._boundaries,
            names.CONTEXT: self._context_tokens,
            names.ENDPOINTS: self._endpoints,
            names.AGE: {(): self._age_s},
            names.RESIDENT: {(): self._resident_chunks},
            names.USAGE_PENDING: {(): self._usage_pending_bytes},
            names.MEMORY: {(): self._memory_bytes},
            names.INFO: {(self._version,): 1},
        }
        return Snapshot(
            counters={spec.name: _plain(series) for spec, series in counters.items()},
            histograms={
                spec.name: {_texts(labels): list(tally) for labels, tally in histogram.series.items()}
                for spec, histogram in histograms.items()
            },
            gauges={spec.name: _plain(series) for spec, series in gauges.items()},
        )

    def render(self, states: Mapping[PoolName, Mapping[EndpointState, int]], age_s: float | None) -> bytes:
        """The Prometheus text of this worker alone, with the directory as it stands now."""
        self.directory(states, age_s)
        return generate_latest(self.registry)


def _counter() -> defaultdict[Labels, float]:
    return defaultdict(int)


def _texts(labels: Labels) -> Labels:
    """Enum members as their values: they are equal and hash alike, but pickle and print differently."""
    return tuple(map(str, labels))


def _plain(series: Mapping[Labels, float]) -> dict[Labels, float]:
    return {_texts(labels): value for labels, value in series.items()}
