"""The gateway and its tenants, as the configuration file has them.

What must not live here: secrets (API keys are in a file of their own, hashed).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from cluster.config.base import Name, Section

PORT_MAX = 65535


class LimitsSection(Section):
    """Bounds on what a client may send and how long it may take."""

    body_bytes: int = Field(default=32 * 2**20, ge=1024, le=2**31 - 1, description="Largest request body; over it: 413")
    header_bytes: int = Field(default=32 * 2**10, ge=1024, le=2**20, description="Request line and headers; over: 431")
    header_s: float = Field(default=10, gt=0, description="Longest a client may take to send its request's head")
    concurrent_requests: int = Field(default=4096, ge=1, description="In flight in one worker; over it: 429")
    queued_requests: int = Field(default=1024, ge=0, description="Waiting in one worker for a free replica; over: 429")
    queued_high_requests: int = Field(
        default=256, ge=0, description="Of class high, waiting in one worker beyond queued_requests; over: 429"
    )
    queue_s: float = Field(default=30, ge=0, description="Longest wait for a free replica; over it: 429")
    hold_s: float = Field(
        default=900, ge=0, description="Longest wait for the first replica of a pool that had none; over it: 503"
    )
    request_s: float = Field(
        default=3600, gt=0, le=86_400, description="A request's deadline where it names none; its engine is aborted"
    )
    client_stall_s: float = Field(default=60, gt=0, description="Longest pause while a client sends its body")
    connect_s: float = Field(default=2, gt=0, description="Connecting to a replica")
    first_byte_s: float = Field(default=1800, gt=0, description="Longest wait for a replica's first byte")
    idle_s: float = Field(default=120, gt=0, description="Longest silence inside an answer before it counts as broken")
    attempts: int = Field(default=2, ge=1, le=10, description="Replicas tried for one request before the first byte")
    retry_ratio: float = Field(
        default=0.2, ge=0, le=1, description="Further attempts allowed across requests, as a share of recent requests"
    )
    resumes: int = Field(
        default=3, ge=0, le=10, description="Times a cut stream may go on at another replica; 0: it ends with an error"
    )
    resume_tokens: int = Field(
        default=65_536,
        ge=1,
        le=2**20,
        description="Longest output after which a cut stream can go on",
    )
    move_s: float | None = Field(
        default=10, ge=0, description="How long a draining replica's streams stay before they move; null: to their end"
    )
    idempotency_s: float = Field(
        default=600,
        ge=0,
        le=86_400,
        description="How long the answer to a request with an Idempotency-Key is kept; 0: keys are not looked at",
    )
    idempotency_unread_s: float = Field(
        default=60, ge=0, description="Longest an answer with a key is made for nobody, after its last client has left"
    )
    idempotency_answer_bytes: int = Field(
        default=16 * 2**20, ge=1024, le=2**30, description="Longest answer that is kept, or joined under way"
    )
    idempotency_bytes: int = Field(
        default=64 * 2**20,
        ge=2**20,
        description="Of all answers with a key, under way in a gateway, and again of those it keeps, compressed",
    )
    idempotency_answers: int = Field(default=10_000, ge=64, description="Answers that one gateway keeps")
    drain_s: float = Field(default=600, ge=0, description="Longest a stopping gateway lets answers finish")


class TlsSection(Section):
    """TLS on the gateway's listener; files are read again on SIGHUP."""

    cert_file: str = Field(description="Certificate chain, PEM")
    key_file: str = Field(description="Private key, PEM")
    client_ca_file: str | None = Field(default=None, description="CA whose client certificates are required")


class AuthSection(Section):
    """Who may ask. Without keys the gateway listens on loopback only."""

    keys_file: str | None = Field(
        default=None, description="API keys, hashed (`longreach keys`); none: every client is the tenant `default`"
    )
    certificate_tenants: bool = Field(
        default=False,
        description="A request without a key belongs to the tenant that its client certificate's common name names; "
        "needs gateway.tls.client_ca_file and keys_file",
    )


class AdminSection(Section):
    """The listener for metrics, explain and the other routes that are not for clients."""

    host: str = "127.0.0.1"
    port: int | None = Field(
        default=None, ge=0, le=65535, description="0 picks a free one; none: the one after gateway.port"
    )
    metrics_without_key: bool = Field(
        default=False, description="Whether /metrics answers everybody who reaches the listener"
    )


class GrpcSection(Section):
    """The gRPC listener, beside the REST one: same host, same TLS files, same keys."""

    enabled: bool = True
    port: int | None = Field(
        default=None, ge=0, le=PORT_MAX, description="0 picks a free one; none: the second after gateway.port"
    )
    connection_age_s: float = Field(
        default=1800,
        ge=0,
        description="A connection is asked to end after about this long, so that clients spread over new gateways; its "
        "streams go on to their end; 0: never",
    )
    gzip_answers: bool = Field(
        default=False,
        description="Compress answers that are not streams and have 1 KiB or more; requests may always be",
    )


class RoutingSection(Section):
    """How an endpoint is chosen among those that hold a request."""

    policy: Literal["round-robin", "least-work", "session", "prefix", "balanced"] = "balanced"
    reserve_ratio: float = Field(
        default=0.25, ge=0, le=1, description="Share of a larger pool's slots that spilled requests never take"
    )
    boundary: Literal["fixed", "adaptive"] = Field(
        default="fixed",
        description="Up to which length a pool is preferred: its context_tokens, or what follows the traffic below it",
    )


class GatewaySection(Section):
    """Where the gateway listens and what it bounds."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535, description="0 picks a free one")
    workers: int = Field(default=1, ge=1, le=64, description="Processes that share the port")
    tls: TlsSection | None = None
    auth: AuthSection = AuthSection()
    admin: AdminSection = AdminSection()
    grpc: GrpcSection = GrpcSection()
    routing: RoutingSection = RoutingSection()
    limits: LimitsSection = LimitsSection()

    @property
    def admin_port(self) -> int:
        """Where the admin listener goes; 0: any free port."""
        if self.admin.port is not None:
            return self.admin.port
        return 0 if self.port in {0, PORT_MAX} else self.port + 1

    @property
    def grpc_port(self) -> int:
        """Where the gRPC listener goes; 0: any free port."""
        if self.grpc.port is not None:
            return self.grpc.port
        return 0 if self.port == 0 or self.port > PORT_MAX - 2 else self.port + 2

    @model_validator(mode="after")
    def _certificates_are_asked_for(self) -> Self:
        if self.auth.certificate_tenants:
            if self.tls is None or self.tls.client_ca_file is None:
                raise ValueError("auth.certificate_tenants needs tls.client_ca_file, which asks for them")
            if self.auth.keys_file is None:
                raise ValueError("auth.certificate_tenants needs auth.keys_file: the admin routes take keys only")
        return self


class TenantSection(Section):
    """What one tenant may have. A tenant that is not listed has the defaults."""

    name: Name
    weight: float = Field(default=1, gt=0, le=1000, description="Share of a saturated pool, against other tenants")
    priority: Literal["high", "normal", "low"] = Field(
        default="normal", description="The highest priority class its requests may ask for, and what they get"
    )
    requests_per_minute: int | None = Field(default=None, ge=1, description="Over it: 429")
    tokens_per_minute: int | None = Field(default=None, ge=1, description="Prompt and output tokens; over it: 429")
