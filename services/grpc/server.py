"""The gRPC listener: port, limits, health, draining, and its own survival.

What must not live here: services, TLS files (tls.py), building the gateway's parts (services/gateway/assembly.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from cluster.config import GatewaySection, TlsSection
from cluster.core.errors import SetupError
from cluster.tasks import end_tasks
from services.grpc import admin, health, inference
from services.grpc.calls import Calls
from services.grpc.generated.longreach.v1 import admin_pb2, inference_pb2  # noqa: F401 - reflection finds them by name
from services.grpc.tls import Tls
from services.http1.listener import or_free

logger = logging.getLogger(__name__)

HEALTH_POLL_S = 0.25
"""As often as leases are read."""
KEEPALIVE_S = 60
"""Between two pings on a silent connection; a peer that is gone is noticed within this and `KEEPALIVE_TIMEOUT_S`."""
KEEPALIVE_TIMEOUT_S = 20
CLIENT_PING_LEAST_S = 10
"""Clients that ping more often are sent away (gRPC's own default is 5 minutes, longer than many load balancers keep
silent connections)."""
SETTLE_S = 0.1
"""What was accepted just before a stop has begun by then."""
AGAIN_S = 0.05
"""Between two listeners that end by themselves."""
FORMER_MAX = 8
"""Listeners that ended by themselves and have calls under way; of more the oldest loses its calls."""
OVERALL = ""
"""In grpc.health.v1: the server as a whole."""
_MAIN_LOOP = "_server_main_loop"


class GrpcServices(NamedTuple):
    """What a gateway serves by gRPC."""

    inference: inference.InferenceService
    admin: admin.AdminService
    calls: Calls
    """Of both."""


class GrpcServer:
    """Serves the services on one port."""

    def __init__(
        self,
        section: GatewaySection,
        services: GrpcServices,
        is_ready: Callable[[], bool],
        *,
        shared_port: int | None = None,
    ) -> None:
        """Bind the port; needs the running loop.

        Args:
            section: as the gateway starts with it.
            services: what is served.
            is_ready: whether requests can be served now.
            shared_port: of a worker among several, which all listen on it; None for a gateway of one process.

        Raises:
            SetupError: the address or a TLS file cannot be had. A port nobody named gives way to a free one instead.
        """
        self._section = section
        self._services = services
        self._is_ready = is_ready
        self._shares = shared_port is not None
        self._health = health.Health()
        self._stopping = asyncio.Event()
        self._is_draining = False
        self._serving: asyncio.Task[Any] | None = None
        self._former: dict[grpc.aio.Server, asyncio.Task[Any]] = {}
        self._tls = None if section.tls is None else Tls(section.tls)
        wanted = section.grpc_port if shared_port is None else shared_port
        is_named = section.grpc.port is not None or shared_port is not None
        self._server, self.port = or_free(self._bound, wanted, is_named=is_named)

    def _bound(self, port: int) -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(options=_options(self._section, shares=self._shares))
        names = (inference.SERVICE, admin.SERVICE, health.SERVICE, reflection.SERVICE_NAME)
        services = (self._services.inference, self._services.admin, self._health)
        reflecting = _Reflection(names, stopping=self._stopping)
        # Generic handlers only: grpc.aio frees its waiting requests for registered methods (what generated
        # `add_…_to_server` functions add) when its main loop fails, while the core still writes to them.
        server.add_generic_rpc_handlers(tuple(service.handler() for service in (*services, reflecting)))
        host = self._section.host
        address = f"[{host}]:{port}" if ":" in host or not host else f"{host}:{port}"
        try:
            if self._tls is None:
                bound = server.add_insecure_port(address)
            else:
                bound = server.add_secure_port(address, self._tls.credentials)
        except RuntimeError as error:
            raise SetupError(
                f"the gateway cannot serve gRPC on {host}:{port}",
                "stop what uses the port, or set gateway.grpc.port to another (0 picks a free one)",
            ) from error
        return server, int(bound)

    async def start(self) -> None:
        """Accept calls."""
        self._tell_health()
        before = asyncio.all_tasks()
        await self._server.start()
        # gRPC tells of its main loop's end only after the last call under way has ended, which may be an hour.
        new = asyncio.all_tasks() - before
        self._serving = next((task for task in new if getattr(task.get_coro(), "__name__", "") == _MAIN_LOOP), None)

    async def follow(self) -> None:
        """Keep health as readiness is, and the port served, until cancelled."""
        while True:
            self._tell_health()
            if self._serving is None or self._is_draining:
                await asyncio.sleep(HEALTH_POLL_S)
            elif self._serving.done():
                await self._serve_again()
            else:
                await asyncio.wait({self._serving}, timeout=HEALTH_POLL_S)

    def lame_duck(self) -> None:
        """From now on health says that nothing is served here; calls are still taken."""
        self._is_draining = True
        for name in (OVERALL, inference.SERVICE, admin.SERVICE):
            self._health.set(name, is_serving=False)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, tell connections so (GOAWAY), and wait for answers under way, for so long at most."""
        self._is_draining = True
        self._stopping.set()
        self._health.end()
        servers = [*self._former, self._server]
        stopping = asyncio.create_task(_stopped(servers, grace_s))
        answered = asyncio.create_task(self._answered())
        await asyncio.wait({stopping, answered}, return_when=asyncio.FIRST_COMPLETED)
        await end_tasks([answered])
        # What is left has a client that reads nothing.
        await _stopped(servers, 0)
        await stopping
        await end_tasks(self._former.values())

    async def _answered(self) -> None:
        await asyncio.sleep(SETTLE_S)
        await self._services.calls.ended()

    async def _serve_again(self) -> None:
        """One request whose path is not UTF-8 ends grpc.aio's main loop (grpcio 1.85), and with it the listener."""
        logger.error("the gRPC listener ended by itself, starting another", extra={"port": self.port})
        try:
            server, _ = self._bound(self.port)
        except SetupError:
            logger.exception("the gRPC port cannot be had, trying again", extra={"port": self.port})
            await asyncio.sleep(HEALTH_POLL_S)
            return
        # The former one has calls under way, and must live until they have ended.
        former, self._server = self._server, server
        self._former[former] = asyncio.create_task(_stopped([former], self._section.limits.request_s))
        self._former[former].add_done_callback(lambda _: self._former.pop(former, None))
        await self.start()
        if len(self._former) > FORMER_MAX:
            await _stopped([next(iter(self._former))], 0)
        await asyncio.sleep(AGAIN_S)

    def reload_tls(self, section: TlsSection) -> None:
        """Read certificate and key again, for connections to come.

        Raises:
            SetupError: a file cannot be read; those in use stay.
        """
        if self._tls is not None:
            self._tls.reload(section)

    def _tell_health(self) -> None:
        if self._is_draining:
            return
        is_ready = self._is_ready()
        self._health.set(OVERALL, is_serving=is_ready)
        self._health.set(inference.SERVICE, is_serving=is_ready)
        # Looking into a cluster is of most use when nothing is served.
        self._health.set(admin.SERVICE, is_serving=True)


async def _stopped(servers: Collection[grpc.aio.Server], grace_s: float) -> None:
    async def stopped(server: grpc.aio.Server) -> None:
        with contextlib.suppress(UnicodeDecodeError):  # one that ended by itself may raise first what ended it
            await server.stop(grace_s)
            return
        await server.stop(grace_s)

    await asyncio.gather(*map(stopped, servers))


class _Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """Reflection whose streams end with the server."""

    def __init__(self, names: tuple[str, ...], *, stopping: asyncio.Event) -> None:
        super().__init__(names)
        self._stopping = stopping

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server registers."""
        method = grpc.stream_stream_rpc_method_handler(
            self.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(reflection.SERVICE_NAME, {"ServerReflectionInfo": method})

    async def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """Answer one request after another, until either side ends."""
        requests = aiter(request_iterator)
        stop = asyncio.create_task(self._stopping.wait())
        try:
            while True:
                following = asyncio.ensure_future(anext(requests, None))
                await asyncio.wait({following, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    return
                request = following.result()
                if request is None:
                    return
                async for answer in super().ServerReflectionInfo(_one(request), context):
                    yield answer
        finally:
            stop.cancel()


async def _one(request: Any) -> Any:
    yield request


def _options(section: GatewaySection, *, shares: bool) -> list[tuple[str, int]]:
    """Channel arguments; their names are in gRPC's include/grpc/impl/channel_arg_names.h."""
    limits = section.limits
    options = [
        # Two gateways on one port by mistake would each get half of the calls.
        ("grpc.so_reuseport", int(shares)),
        ("grpc.max_receive_message_length", limits.body_bytes),
        # An answer is as long as its engine makes it; services/grpc/delivery.py bounds it.
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", limits.header_bytes),
        ("grpc.absolute_max_metadata_size", limits.header_bytes),
        ("grpc.max_concurrent_streams", limits.concurrent_requests),
        # Above its own 1,000, gRPC cancels calls at random before a handler sees them.
        ("grpc.server.max_pending_requests", limits.concurrent_requests),
        ("grpc.server.max_pending_requests_hard_limit", 2 * limits.concurrent_requests),
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        # What ends a silent connection in fact; its own default is a minute.
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", CLIENT_PING_LEAST_S * 1000),
    ]
    if section.grpc.connection_age_s:
        # gRPC itself adds a tenth either way, so that clients do not come back all at once.
        options.append(("grpc.max_connection_age_ms", int(section.grpc.connection_age_s * 1000)))
    return options
