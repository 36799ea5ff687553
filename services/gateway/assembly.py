"""Puts a gateway's parts together: everything between the configuration and the listeners.

What must not live here: behaviour, files' contents, signals (main.py).
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from cluster.config import Config
from cluster.core.idempotency import Room
from cluster.core.tenant import TenantName
from cluster.state.answers import RENEW_S
from cluster.state.quotas import Quotas
from cluster.state.usage import UsageStore
from cluster.state.usage_files import FileTotals
from services.api.conduct import Conduct
from services.api.gateway import Gateway
from services.api.repeats import Repeats
from services.api.snapshot import snapshot_of
from services.gateway.access import Access
from services.gateway.access_log import AccessLog
from services.gateway.answers import Answers, AnswerSource
from services.gateway.asking import Asking
from services.gateway.boundary import Boundaries, BoundaryExchange
from services.gateway.current import Current
from services.gateway.demand import AskedWriter, Demand
from services.gateway.departures import Departures
from services.gateway.directory import Directory, LeaseReader
from services.gateway.dispatch import Dispatcher
from services.gateway.kept import Kept, KeptSource
from services.gateway.metrics import Metrics
from services.gateway.moves import Moves
from services.gateway.open_answers import OpenAnswers
from services.gateway.places import Places
from services.gateway.probes import StaticProbes
from services.gateway.residency import Residency, ResidencySource
from services.gateway.scaling import RecordReader, Scaling
from services.gateway.scrapes import Scrapes
from services.gateway.server import KEEPALIVE_S
from services.gateway.succession import Succession
from services.gateway.tokens import PromptCounter
from services.gateway.upstream import HttpUpstream
from services.gateway.usage import LocalTotals, Usage
from services.gateway.usage_journal import UsageJournal
from services.gateway.waiting import WaitingRoom
from services.grpc.admin import AdminService
from services.grpc.calls import Calls
from services.grpc.inference import InferenceService
from services.grpc.server import GrpcServices
from services.http1.answer import HttpDate
from services.http1.asgi import AsgiBridge
from services.http1.request import ServerLimits
from services.rest.admin import AdminFront
from services.rest.app import build_app
from services.rest.front import Front
from services.rest.inference import InferenceHandler
from services.tracing.exporter import Sink
from services.tracing.resource import process_resource
from services.tracing.settings import TraceSettings
from services.tracing.tracing import Tracing

if TYPE_CHECKING:
    from services.gateway.metrics_push import MetricsPush

STDERR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a gateway is put into: stores, folders, secrets."""

    current: Current
    access: Access
    counter: PromptCounter
    leases: LeaseReader | None
    residency: ResidencySource | None
    kept: KeptSource | None
    asked: AskedWriter | None
    records: RecordReader | None
    boundaries: BoundaryExchange | None
    kept_answers: AnswerSource | None
    redis: Redis | None
    """The state store, for quotas and usage."""
    usage_folder: Path | None
    """None: usage is not recorded."""
    credential: str | None
    """What replicas of this cluster want to see."""
    parent_token: str | None
    """What the parent of several workers shows; None where there is no parent."""
    traces: TraceSettings
    sinks: Sequence[Sink]
    """Where spans go; none: nothing is traced."""
    rng: random.Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """A gateway, ready to be put on listeners."""

    gateway: Gateway
    front: Front
    admin: AdminFront
    probes: StaticProbes
    upstream: HttpUpstream
    counter: PromptCounter
    quotas: Quotas
    demand: Demand
    moves: Moves
    repeats: Repeats
    grpc: GrpcServices
    push: MetricsPush | None

    def limits(self) -> ServerLimits:
        """What a client's connection may send and how long it may take, as configured now."""
        limits = self.gateway.current.catalog.config.gateway.limits
        return ServerLimits(
            header_bytes=limits.header_bytes,
            header_s=limits.header_s,
            body_bytes=limits.body_bytes,
            stall_s=limits.client_stall_s,
            unread_s=limits.idle_s,
            keepalive_s=KEEPALIVE_S,
        )

    def reloaded(self) -> None:
        """Take over a new configuration wherever parts keep something of it."""
        catalog = self.gateway.current.catalog
        self.gateway.directory.use(catalog)
        self.gateway.boundaries.use(catalog)
        self.gateway.metrics.use_revisions(catalog.revisions())
        self.gateway.metrics.use_tenants([TenantName(tenant.name) for tenant in catalog.config.tenants])
        self.gateway.metrics.use_models(catalog.models)

    @property
    def loops(self) -> tuple[Callable[[], Awaitable[None]], ...]:
        """What runs beside the listeners."""
        gateway = self.gateway
        loops = [
            gateway.directory.follow,
            gateway.residency.follow,
            gateway.residency.kept.follow,
            self.probes.follow,
            gateway.access.follow,
            gateway.scaling.follow,
            gateway.boundaries.follow,
            self.quotas.follow,
            self.demand.follow,
            self.moves.follow,
            self.repeats.follow,
        ]
        if gateway.usage is not None:
            loops.append(gateway.usage.follow)
        if self.push is not None:
            loops.append(self.push.follow)
        return tuple(loops)

    async def ready(self) -> None:
        """Know what can be known before the first request."""
        await asyncio.gather(
            self.gateway.directory.refresh(), self.probes.probe_all(), self.counter.ready(), self.quotas.greet()
        )

    async def close(self) -> None:
        """Hand in what is left; let go of connections and threads."""
        await self.repeats.close()
        await self.upstream.close()
        self.counter.close()
        await self.quotas.close()
        await self.demand.close()
        if self.gateway.usage is not None:
            await self.gateway.usage.close()
        if self.push is not None:
            await self.push.close()
        if self.gateway.tracing is not None:
            await asyncio.to_thread(self.gateway.tracing.close)
        self.gateway.access_log.close()


def assemble(around: Surroundings) -> Assembly:
    """Build the parts; needs the running event loop.

    Raises:
        SetupError: the usage folder cannot be written.
    """
    current, loop, clock = around.current, asyncio.get_running_loop(), time.monotonic
    config = current.catalog.config
    upstream = HttpUpstream()
    upstream.start()
    metrics = Metrics()
    directory = Directory(around.leases, clock=clock)
    room = WaitingRoom(clock=clock, limits=lambda: current.catalog.config.gateway.limits)
    directory.on_change = room.pump_all
    directory.on_gone = Departures(upstream, leases=directory.leases).gone
    residency = Residency(around.residency, directory.leases, clock, Kept(around.kept, directory.leases, clock))
    writer = secrets.token_hex(8)
    demand = Demand(around.asked, gateway=writer, standing=room.standing, clock=clock)
    scaling = Scaling(around.records, pools=lambda: current.catalog.autoscaled, clock=time.time)
    boundaries = Boundaries(around.boundaries, gateway=writer, directory=directory, speeds=scaling.speed, clock=clock)
    quotas = Quotas(around.redis, config.cluster.name, gateway=writer, clock=clock, sharers=config.gateway.workers)
    places = Places(
        directory=directory,
        residency=residency,
        room=room,
        demand=demand,
        scaling=scaling,
        rng=around.rng,
        clock=clock,
    )
    asking = Asking(
        directory=directory,
        counter=around.counter,
        upstream=upstream,
        metrics=metrics,
        places=places,
        clock=clock,
        credential=around.credential,
    )
    open_answers = OpenAnswers()
    dispatcher = Dispatcher(
        current=current,
        directory=directory,
        residency=residency,
        counter=around.counter,
        metrics=metrics,
        places=places,
        quotas=quotas,
        boundaries=boundaries,
        asking=asking,
        succession=Succession(
            asking=asking,
            directory=directory,
            places=places,
            metrics=metrics,
            open_answers=open_answers,
            clock=clock,
        ),
        open_answers=open_answers,
        rng=around.rng,
    )
    gateway = Gateway(
        current=current,
        access=around.access,
        directory=directory,
        residency=residency,
        room=room,
        scaling=scaling,
        boundaries=boundaries,
        dispatcher=dispatcher,
        answers=Answers(
            around.kept_answers,
            clock=clock,
            room=lambda: _room(current.catalog.config),
            life_s=lambda: current.catalog.config.gateway.limits.idempotency_s,
            renew_s=RENEW_S,
        ),
        metrics=metrics,
        access_log=AccessLog(
            is_json=config.telemetry.log_format == "json",
            call_soon=loop.call_soon,
            call_later=loop.call_later,
            descriptor=STDERR,
        ),
        usage=_usage(around, writer, metrics, config),
        tracing=_tracing(around, metrics) if around.sinks else None,
        clock=clock,
        name=writer,
        credential=around.credential,
    )
    date, conduct, calls = HttpDate(), Conduct(gateway), Calls()
    assembly = Assembly(
        gateway=gateway,
        front=Front(InferenceHandler(gateway, conduct, date), AsgiBridge(build_app(gateway), date), date),
        admin=AdminFront(
            gateway,
            date,
            Scrapes(directory.leases, upstream, credential=around.credential),
            parent_token=around.parent_token,
        ),
        probes=StaticProbes(current, directory, upstream),
        upstream=upstream,
        counter=around.counter,
        quotas=quotas,
        demand=demand,
        moves=Moves(open_answers, directory.leases, lambda: current.catalog.config.gateway.limits.move_s, clock),
        repeats=conduct.repeats,
        grpc=GrpcServices(InferenceService(gateway, conduct, calls), AdminService(gateway, calls), calls),
        push=_push(gateway, config),
    )
    assembly.reloaded()
    return assembly


def _room(config: Config) -> Room:
    """One worker's share."""
    limits, workers = config.gateway.limits, config.gateway.workers
    return Room(answers=limits.idempotency_answers // workers, total_bytes=limits.idempotency_bytes // workers)


def _tracing(around: Surroundings, metrics: Metrics) -> Tracing:
    tracing = Tracing(around.traces, around.sinks, rng=around.rng, clock=time.monotonic)
    metrics.spans = tracing.spans
    return tracing


def _push(gateway: Gateway, config: Config) -> MetricsPush | None:
    section = config.telemetry.metrics
    if section.endpoint is None:
        return None
    from services.gateway.metrics_push import MetricsPush, exporter_of

    return MetricsPush(
        exporter_of(section),
        lambda: snapshot_of(gateway),
        every_s=section.every_s,
        resource=process_resource(config.cluster.name),
    )


def _usage(around: Surroundings, writer: str, metrics: Metrics, config: Config) -> Usage | None:
    folder = around.usage_folder
    if folder is None:
        return None
    loop = asyncio.get_running_loop()
    journal = UsageJournal(folder, writer=writer, call_soon=loop.call_soon)
    totals = LocalTotals(FileTotals(folder)) if around.redis is None else UsageStore(around.redis, config.cluster.name)
    return Usage(journal, totals, clock=time.time, report=metrics.usage)
