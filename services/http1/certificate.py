"""Who a client's certificate names.

What must not live here: verifying it (TLS does), what the name may do (services/gateway/auth.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """The first common name in a verified certificate, in the form of `ssl.SSLSocket.getpeercert`."""
    for name in certificate.get("subject", ()) if certificate else ():
        for kind, value in name:
            if kind == "commonName":
                return str(value)
    return None
