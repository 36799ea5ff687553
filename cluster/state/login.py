"""Logging in to the state Redis: from the configuration's `redis.state_*` keys to what a client is made from.

`StateServer` holds names of secrets and never a secret, so it may travel, be logged and be written down; who keeps
connections makes a client from it (`connect` in leases.py, `connect_binary` in residency.py), which reads the password
anew for every connection. `state_address` has the password in it and is for a client that is used and closed.
What must not live here: which key holds what, and any text that is shown with a password in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as RedisConnectionError

from cluster.config import RedisSection
from cluster.core.errors import SetupError
from cluster.environment import read_environment
from cluster.state.passwords import read_password

TLS_SCHEME = "rediss"
CA_OPTION = "ssl_ca_certs"
"""redis-py's name for the CA file, as an argument and in an address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateServer:
    """Where the state Redis is, and how to log in there."""

    url: str
    user: str | None = None
    password_env: str | None = None
    password_file: str | None = None
    ca_file: str | None = None

    def password(self, secret: Callable[[str], str | None]) -> str | None:
        """The password, read now; None where none is configured.

        Raises:
            SetupError: it is not where it should be.
        """
        return read_password(env=self.password_env, file=self.password_file, secret=secret)

    def address(self, secret: Callable[[str], str | None]) -> str:
        """All in one address, for use inside this process.

        Raises:
            SetupError: the password is not where it should be.
        """
        parts = urlsplit(self.url)
        netloc, query = parts.netloc, parts.query
        password = self.password(secret)
        if self.user is not None or password is not None:
            login = quote(self.user or "", safe="")
            if password is not None:
                login += ":" + quote(password, safe="")
            netloc = f"{login}@{parts.netloc}"
        if self.ca_file is not None and parts.scheme == TLS_SCHEME:
            query = "&".join(filter(None, (query, f"{CA_OPTION}={quote(self.ca_file, safe='/')}")))
        return urlunsplit((parts.scheme, netloc, parts.path, query, ""))

    def client_options(self) -> dict[str, Any]:
        """What redis-py's `from_url` takes beside the address."""
        options: dict[str, Any] = {}
        if self.user is not None or self.password_env is not None or self.password_file is not None:
            options["credential_provider"] = _Login(self)
        if self.ca_file is not None and urlsplit(self.url).scheme == TLS_SCHEME:
            options[CA_OPTION] = self.ca_file
        return options


class _Login(CredentialProvider):
    """Asked by redis-py for every new connection, so a password that was changed counts from the next one on."""

    def __init__(self, server: StateServer) -> None:
        self._server = server

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Password, or user and password.

        Raises:
            RedisConnectionError: there is none now, which is a store that is away and comes back.
        """
        try:
            password = self._server.password(read_environment().secret) or ""
        except SetupError as error:
            raise RedisConnectionError(error.problem) from None
        return (password,) if self._server.user is None else (self._server.user, password)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The same: a file this small is read at once."""
        return self.get_credentials()


def state_server(redis: RedisSection, *, own: str | None = None) -> StateServer | None:
    """The state store's server; None where there is none.

    Args:
        redis: the configuration's section.
        own: address of the embedded server of a cluster that `longreach up` made, which asks for no login.
    """
    if own is not None:
        return StateServer(url=own)
    if redis.state_url is None:
        return None
    return StateServer(
        url=redis.state_url,
        user=redis.state_user,
        password_env=redis.state_password_env,
        password_file=redis.state_password_file,
        ca_file=redis.state_ca_file,
    )


def state_address(redis: RedisSection, secret: Callable[[str], str | None], *, own: str | None = None) -> str | None:
    """The state store's address with login and CA in it, for use inside this process only; None where there is none.

    Args:
        redis: the configuration's section.
        secret: the value of an environment variable.
        own: as for `state_server`.

    Raises:
        SetupError: the password is not where it should be.
    """
    server = state_server(redis, own=own)
    return None if server is None else server.address(secret)
