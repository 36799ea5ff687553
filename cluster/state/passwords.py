"""Where the password of a Redis server is kept, and reading it from there.

What lives here: the rules for an environment variable and for a file. What must not: Redis, what is done with it. It is
imported by the engine's own processes, so it takes the standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cluster.core.errors import SetupError

PASSWORD_BYTES_MAX = 4096
"""Longest password that is read; a file larger than that is not one."""
OTHERS = 0o007


def read_password(
    *, env: str | None, file: str | None, secret: Callable[[str], str | None], key: str = "redis.state_password"
) -> str | None:
    """The password, read now; None where none is configured.

    Args:
        env: name of a variable.
        file: path of a file; white space around its content does not count.
        secret: the value of a variable.
        key: how the configuration's keys for it begin, for errors.

    Raises:
        SetupError: it is not where it should be, or everybody can read its file. The password is never in it.
    """
    if file is not None:
        path = Path(file)
        try:
            if path.stat().st_mode & OTHERS:
                raise SetupError(
                    f"{key}_file: {path} may be read by everybody",
                    "take that right away: chmod o= FILE, or for a Kubernetes Secret defaultMode 0440 and fsGroup",
                )
            with path.open("rb") as opened:
                content = opened.read(PASSWORD_BYTES_MAX + 1)
        except OSError as error:
            raise SetupError(
                f"{key}_file: the password of Redis cannot be read: {error}", "put it there, readable for this user"
            ) from error
        return _text(content, f"{key}_file: {path}")
    if env is not None:
        value = secret(env)
        if not value:
            raise SetupError(
                f"{key}_env: the variable {env} with the password of Redis is not set", f"set {env} for this process"
            )
        return value
    return None


def _text(content: bytes, where: str) -> str:
    if len(content) > PASSWORD_BYTES_MAX:
        raise SetupError(f"{where} is longer than {PASSWORD_BYTES_MAX} bytes", "put the password there, alone")
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        raise SetupError(f"{where} is no UTF-8 text", "put the password there, alone") from None
    if not text:
        raise SetupError(f"{where} is empty", "put the password there, alone")
    return text
