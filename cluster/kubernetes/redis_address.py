"""What a Redis address says of itself.

What must not live here: connecting.
"""

from __future__ import annotations

from urllib.parse import urlsplit

CLUSTER_NAMES = (".svc", ".cluster.local")


def is_cluster_name(url: str) -> bool:
    """Whether the host is a Service's name rather than an address others know."""
    host = urlsplit(url).hostname or ""
    return host.endswith(CLUSTER_NAMES) or ("." not in host and ":" not in host and host != "localhost")


def shown(url: str) -> str:
    """The URL without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
