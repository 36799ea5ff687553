"""What a Redis address says of itself, and the server that options name.

What must not live here: connecting.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import SplitResult, unquote, urlsplit

from cluster.core.errors import SetupError
from cluster.state.login import StateServer

CLUSTER_NAMES = (".svc", ".cluster.local")
UNREADABLE = "?"
READABLE_REMEDY = (
    "write redis://HOST:6379/0 and name the password with --redis-password-env; in an address it is percent-encoded "
    "(/ is %2F, # is %23, ? is %3F)"
)


def is_cluster_name(url: str, namespace: str) -> bool:
    """Whether the host is a Service's name rather than an address others know.

    Args:
        url: of the server.
        namespace: of the release; the chart writes SERVICE.NAMESPACE.
    """
    parts = _parts(url)
    host = (parts.hostname if parts is not None else None) or ""
    return host.endswith((*CLUSTER_NAMES, f".{namespace}")) or (
        "." not in host and ":" not in host and host != "localhost"
    )


def is_readable(url: str) -> bool:
    """Whether host and password can be told apart: a password that is not percent-encoded moves the borders."""
    return _parts(url) is not None


def shown(url: str) -> str:
    """Scheme, host, port and path of the URL, and nothing that could hold a password; `?` where that is not known."""
    parts = _parts(url)
    return UNREADABLE if parts is None else f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def named_server(url: str, password_env: str | None, secret: Callable[[str], str | None]) -> StateServer:
    """The server that `--redis-url` and `--redis-password-env` mean.

    Args:
        url: of the server; with a variable named it may hold a user.
        password_env: variable that holds the password; None is no password beside the URL's.
        secret: the value of a variable.

    Raises:
        SetupError: they contradict each other, or the variable is not set.
    """
    parts = _parts(url)
    if password_env is None or parts is None:
        return StateServer(url=url, password_env=password_env)
    if parts.password is not None:
        raise SetupError("--redis-url has a password, and --redis-password-env names another", "leave one of them out")
    if not secret(password_env):
        raise SetupError(f"--redis-password-env: the variable {password_env} is not set", "export it before")
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return StateServer(url=bare, user=unquote(parts.username) if parts.username else None, password_env=password_env)


def _parts(url: str) -> SplitResult | None:
    """The URL in pieces; None where an `@`, a missing host or a port that is none shows that they are wrong."""
    try:
        parts = urlsplit(url)
        has_host = parts.hostname is not None or parts.scheme == "unix"
        _ = parts.port
    except ValueError:
        return None
    return parts if has_host and "@" not in parts.path + parts.query + parts.fragment else None
