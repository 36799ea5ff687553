"""The gRPC listener: ports, limits, TLS, health, draining.

What must not live here: services, building the gateway's parts (services/gateway/assembly.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cluster.config import GatewaySection, TlsSection
from cluster.core.errors import SetupError
from cluster.tasks import end_tasks
from services.grpc import admin, inference
from services.grpc.generated.longreach.v1 import admin_pb2, inference_pb2  # noqa: F401 - reflection finds them by name

logger = logging.getLogger(__name__)

HEALTH_POLL_S = 0.25
"""As often as leases are read."""
KEEPALIVE_S = 60
"""Between two pings on a silent connection; a peer that is gone is noticed within this and `KEEPALIVE_TIMEOUT_S`."""
KEEPALIVE_TIMEOUT_S = 20
CLIENT_PING_LEAST_S = 10
"""Clients that ping more often are sent away (gRPC's own default is 5 minutes, shorter than many load balancers keep
silent connections)."""
PROBED = (inference.SERVICE, admin.SERVICE, health.OVERALL_HEALTH)


class GrpcServices(NamedTuple):
    """What a gateway serves by gRPC."""

    inference: inference.InferenceService
    admin: admin.AdminService


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
        self._is_ready = is_ready
        self._server = grpc.aio.server(options=_options(section, shares=shared_port is not None))
        self._services = services
        self._server.add_generic_rpc_handlers((services.inference.handler(), services.admin.handler()))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (inference.SERVICE, admin.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._tls = None if section.tls is None else _Tls(section.tls)
        wanted = section.grpc_port if shared_port is None else shared_port
        try:
            self.port = self._bound(section.host, wanted)
        except SetupError:
            if section.grpc.port is not None or shared_port is not None:
                raise
            self.port = self._bound(section.host, 0)
        self._is_draining = False

    def _bound(self, host: str, port: int) -> int:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if self._tls is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, self._tls.credentials)
        except RuntimeError as error:
            raise SetupError(
                f"the gateway cannot serve gRPC on {host}:{port}",
                "stop what uses the port, or set gateway.grpc.port to another (0 picks a free one)",
            ) from error
        return int(bound)

    async def start(self) -> None:
        """Accept calls."""
        await self._tell_health()
        await self._server.start()

    async def follow(self) -> None:
        """Keep health as readiness is, until cancelled."""
        while True:
            await self._tell_health()
            await asyncio.sleep(HEALTH_POLL_S)

    async def lame_duck(self) -> None:
        """From now on health says that nothing is served here; calls are still taken."""
        self._is_draining = True
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, tell connections so (GOAWAY), and wait for answers under way, for so long at most."""
        stopping = asyncio.create_task(self._server.stop(grace_s))
        answered = asyncio.create_task(self._services.inference.answered())
        await asyncio.wait({stopping, answered}, return_when=asyncio.FIRST_COMPLETED)
        await end_tasks([answered])
        # What is left watches health or reads reflection, and would do so for ever.
        await self._server.stop(0)
        await stopping

    def reload_tls(self, section: TlsSection) -> None:
        """Read certificate and key again, for connections to come.

        Raises:
            SetupError: a file cannot be read; those in use stay.
        """
        if self._tls is not None:
            self._tls.reload(section)

    async def _tell_health(self) -> None:
        if self._is_draining:
            return
        serving = health_pb2.HealthCheckResponse.SERVING
        state = serving if self._is_ready() else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in PROBED:
            # Looking into a cluster is of most use when nothing is served.
            await self._health.set(name, serving if name == admin.SERVICE else state)


class _Tls:
    """The listener's credentials, whose files can be read again."""

    def __init__(self, section: TlsSection) -> None:
        self._configuration = _read(section)
        self.credentials = grpc.dynamic_ssl_server_credentials(
            self._configuration,
            lambda: self._configuration,
            require_client_authentication=section.client_ca_file is not None,
        )

    def reload(self, section: TlsSection) -> None:
        self._configuration = _read(section)


def _read(section: TlsSection) -> grpc.ServerCertificateConfiguration:
    """The files' contents; services/gateway/tls.py has checked that they belong together."""
    names = {"cert_file": section.cert_file, "key_file": section.key_file, "client_ca_file": section.client_ca_file}
    read: dict[str, bytes | None] = {}
    for field, name in names.items():
        try:
            read[field] = None if name is None else Path(name).read_bytes()
        except OSError as error:
            raise SetupError(
                f"gateway.tls.{field}: {name} cannot be read: {error.strerror or error}",
                "check the path and its permissions",
            ) from error
    return grpc.ssl_server_certificate_configuration(
        [(read["key_file"], read["cert_file"])], root_certificates=read["client_ca_file"]
    )


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
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", CLIENT_PING_LEAST_S * 1000),
    ]
    if section.grpc.connection_age_s:
        # gRPC itself adds a tenth either way, so that clients do not come back all at once.
        options.append(("grpc.max_connection_age_ms", int(section.grpc.connection_age_s * 1000)))
    return options
