"""TLS on the gRPC listener: credentials whose files can be read again.

What must not live here: whether the files belong together (services/gateway/tls.py has checked it).
"""

from __future__ import annotations

from pathlib import Path

import grpc

from cluster.config import TlsSection
from cluster.core.errors import SetupError


class Tls:
    """The listener's credentials, whose files can be read again."""

    def __init__(self, section: TlsSection) -> None:
        self._configuration = _read(section)
        self.credentials = grpc.dynamic_ssl_server_credentials(
            self._configuration,
            lambda: self._configuration,
            require_client_authentication=section.client_ca_file is not None,
        )

    def reload(self, section: TlsSection) -> None:
        """Read the files again, for connections to come.

        Raises:
            SetupError: a file cannot be read; those in use stay.
        """
        self._configuration = _read(section)


def _read(section: TlsSection) -> grpc.ServerCertificateConfiguration:
    """The files' contents."""
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
