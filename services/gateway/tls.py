"""TLS on the gateway's listener: from three files to a context, and the same files read again.

What must not live here: the listener (server.py), who a client certificate belongs to (a later issue).
"""

from __future__ import annotations

import ssl
from pathlib import Path

from cluster.config import TlsSection
from cluster.core.errors import SetupError

ALPN = ("http/1.1",)
"""What the gateway speaks; a client that offers only HTTP/2 hears so in the handshake."""


def build_context(section: TlsSection) -> ssl.SSLContext:
    """A server's context: TLS 1.2 or newer, and client certificates where a CA for them is named.

    Raises:
        SetupError: a file cannot be read or is not what it should be, or certificate and key do not belong together.
    """
    # PROTOCOL_TLS_SERVER leaves clients alone and loads no CA of the system: only the named one may vouch for them.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(ALPN))
    _load(context, section)
    if section.client_ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def reload(context: ssl.SSLContext, section: TlsSection) -> None:
    """Read the files again into a context in use: new connections get the new certificate, open ones keep theirs.

    A client CA can be added this way but not taken away, and client certificates neither become nor cease to be
    required: both need a restart, because OpenSSL's store of trusted CAs only grows.

    Raises:
        SetupError: as `build_context`; the context is as it was.
    """
    # On a pair that does not match, OpenSSL would keep the new certificate with the old key: tried elsewhere first.
    build_context(section)
    _load(context, section)


def _load(context: ssl.SSLContext, section: TlsSection) -> None:
    for field, name in (("cert_file", section.cert_file), ("key_file", section.key_file)):
        _must_be_readable(f"gateway.tls.{field}", name)
    try:
        context.load_cert_chain(section.cert_file, section.key_file, password=_no_password)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            raise SetupError(
                f"gateway.tls: the key {section.key_file} does not belong to the certificate {section.cert_file}",
                "name the key the certificate was issued for; the certificate comes first in a chain",
            ) from error
        raise SetupError(
            f"gateway.tls: {section.cert_file} and {section.key_file} are not a PEM certificate and its key "
            f"({reason or error})",
            "check both with `openssl x509 -in FILE -noout` and `openssl pkey -in FILE -noout`",
        ) from error
    if section.client_ca_file is None:
        return
    _must_be_readable("gateway.tls.client_ca_file", section.client_ca_file)
    try:
        context.load_verify_locations(section.client_ca_file)
    except (ssl.SSLError, OSError) as error:
        raise SetupError(
            f"gateway.tls.client_ca_file: {section.client_ca_file} holds no PEM certificate",
            "name the certificate of the CA that issues the clients' certificates",
        ) from error


def _must_be_readable(field: str, name: str) -> None:
    try:
        with Path(name).open("rb"):
            pass
    except OSError as error:
        raise SetupError(
            f"{field}: {name} cannot be read: {error.strerror or error}", "check the path and its permissions"
        ) from error


def _no_password() -> str:
    """Asked for when the key is encrypted; without this OpenSSL would ask at the terminal."""
    raise SetupError("gateway.tls.key_file is encrypted", "store it decrypted, readable by the gateway's user only")
