"""The keys in force, how they change while requests run, and the rule that a door without keys stays on loopback.

What must not live here: checking a key (auth.py), acting on signals (main.py).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from pathlib import Path

from cluster.config import Config
from cluster.config.keys import load_keys
from cluster.core.errors import ConfigError, SetupError
from cluster.core.tenant import Identity
from services.gateway.auth import Authenticator, Denied
from services.gateway.tenants import Tenants

logger = logging.getLogger(__name__)

POLL_S = 2.0
"""Between two looks at the keys file: a key that leaked is worth nothing a few seconds after it was revoked."""


class Access:
    """Holds the authenticator that new requests see."""

    def __init__(self, config: Config) -> None:
        """Read the keys.

        Args:
            config: as the gateway starts with it; its listeners are what this process stays bound to.

        Raises:
            ConfigError: the keys file cannot be read, or has mistakes.
            SetupError: a listener is open to others, and there are no keys.
        """
        require_safe_listener(config)
        self._started = config
        self._config = config
        self._stamp = _stamp(_keys_file(config))
        self._authenticator = _read(config)
        self._changing = asyncio.Lock()

    @property
    def authenticator(self) -> Authenticator:
        """The authenticator in force; a request takes it once and keeps it."""
        return self._authenticator

    def identify(
        self, authorization: str | None, x_api_key: str | None, certificate: str | None = None
    ) -> Identity | Denied:
        """See `Authenticator.identify`."""
        return self._authenticator.identify(authorization, x_api_key, certificate)

    async def reload(self, config: Config) -> bool:
        """Take the keys and tenants that `config` names now; False, with the mistakes in the log, changes nothing.

        The file is read in a thread: requests go on meanwhile.
        """
        async with self._changing:
            try:
                if _keys_file(config) is None:
                    # Not what `config` would listen on: a change of address waits for a restart.
                    _require_loopback(self._started)
                stamp = await asyncio.to_thread(_stamp, _keys_file(config))
                fresh = await asyncio.to_thread(_read, config)
            except ConfigError as error:
                for line in error.lines():
                    logger.error("keys not reloaded: %s", line)  # noqa: TRY400 - the traceback says nothing more
                return False
            except SetupError as error:
                logger.error("keys not reloaded: %s", error.problem)  # noqa: TRY400 - as above
                return False
            self._config, self._stamp, self._authenticator = config, stamp, fresh
        logger.info("keys reloaded", extra={"keys": len(fresh)})
        return True

    async def follow(self) -> None:
        """Look again and again whether the keys file changed, until cancelled."""
        broken: object = None
        while True:
            await asyncio.sleep(POLL_S)
            config = self._config
            stamp = await asyncio.to_thread(_stamp, _keys_file(config))
            # A broken file is told about once, not at every look.
            if stamp not in (self._stamp, broken) and not await self.reload(config):
                broken = stamp


def require_safe_listener(config: Config) -> None:
    """Refuse to open a door that has no lock.

    Raises:
        SetupError: a listener is not on loopback, and the configuration names no keys file.
    """
    if config.gateway.auth.keys_file is None:
        _require_loopback(config)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a listener on `host`; a name counts when all its addresses do."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def _require_loopback(config: Config) -> None:
    for field, host in (("gateway.host", config.gateway.host), ("gateway.admin.host", config.gateway.admin.host)):
        if not is_loopback(host):
            raise SetupError(
                f"{field} is {host}, which others can reach, and there are no API keys",
                "run `longreach keys create --tenant NAME --file FILE` and set gateway.auth.keys_file to FILE, "
                f"or set {field} to 127.0.0.1",
            )


def _keys_file(config: Config) -> Path | None:
    named = config.gateway.auth.keys_file
    return None if named is None else Path(named)


def _read(config: Config) -> Authenticator:
    path = _keys_file(config)
    return Authenticator(
        None if path is None else load_keys(path),
        Tenants(config.tenants),
        takes_certificates=config.gateway.auth.certificate_tenants,
    )


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    """What changes when the file does; a Secret mounted by Kubernetes changes what its link leads to."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
