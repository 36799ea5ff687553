"""A channel's target, options and credentials, the same for both clients.

Options' names are in gRPC's include/grpc/impl/channel_arg_names.h. What must not live here: calls.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from cluster.core.errors import SetupError
from cluster.sockets import is_loopback

MESSAGE_MAX_BYTES = 64 * 2**20
"""A prompt of a million tokens takes 5 MB, its token ids with their texts 15, a thousand vectors of 4,096 numbers 16;
gRPC's own limit for answers is 4 MiB."""
METADATA_MAX_BYTES = 64 * 2**10
"""An error's sentence of 1,000 characters travels three times, percent-encoded once; gRPC's own limit is 8 KiB."""
KEEPALIVE_S = 60
"""As long as the server's own: a gateway that is gone is noticed within this and `KEEPALIVE_TIMEOUT_S`, though a long
prompt keeps a call silent for minutes."""
KEEPALIVE_TIMEOUT_S = 20
CONNECT_TIMEOUT_MS = 5000
"""Of one attempt to connect."""
RECONNECT_FIRST_MS = 200
"""No longer than a first retry waits; gRPC's own second would let the retries of a call all fail in between."""
RECONNECT_LONGEST_MS = 5000
SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "xds:")


class Balancing(StrEnum):
    """Which of a name's addresses a call goes to."""

    PICK_FIRST = "pick_first"
    """All calls over one connection."""
    ROUND_ROBIN = "round_robin"
    """Each call to the next address, over a connection to every one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files, PEM; a client certificate needs its key."""

    root_file: str | Path | None = None
    """Certificates that vouch for the gateway; None: those that grpcio brings."""
    cert_file: str | Path | None = None
    key_file: str | Path | None = None


def target_of(address: str) -> str:
    """The name that gRPC resolves, as `dns:///gateway:8082`; one with a scheme of gRPC's is left as it is."""
    return address if address.startswith(SCHEMES) else f"dns:///{address}"


def options_of(address: str, balancing: Balancing, message_max_bytes: int) -> list[tuple[str, Any]]:
    """Channel options.

    Args:
        address: as the caller has it.
        balancing: between the addresses that its name has.
        message_max_bytes: of one request, and of one message of an answer.
    """
    options: list[tuple[str, Any]] = [
        # retry.py is the one mechanism, and a name's TXT records must not bring back another.
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.service_config", json.dumps({"loadBalancingConfig": [{str(balancing): {}}]})),
        ("grpc.max_send_message_length", message_max_bytes),
        ("grpc.max_receive_message_length", message_max_bytes),
        ("grpc.max_metadata_size", METADATA_MAX_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_MAX_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        # What ends a silent connection in fact; its own default is a minute.
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
        # Despite its name, what an attempt has before it is given up.
        ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_LONGEST_MS),
    ]
    if is_loopback(urlsplit(f"//{address}").hostname or ""):
        # A proxy from the environment cannot reach this machine's own loopback.
        options.append(("grpc.enable_http_proxy", 0))
    return options


def credentials_of(tls: Tls) -> grpc.ChannelCredentials:
    """The files' contents, for gRPC.

    Raises:
        SetupError: a file is missing.
    """
    if (tls.cert_file is None) != (tls.key_file is None):
        raise SetupError("a client certificate and its key come together", "give both cert_file and key_file, or none")
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.root_file),
        private_key=_read(tls.key_file),
        certificate_chain=_read(tls.cert_file),
    )


def _read(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SetupError(
            f"{path} cannot be read: {error.strerror or error}", "check the path and its permissions"
        ) from error
