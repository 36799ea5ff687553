"""The file of API keys: its schema, reading it, writing it.

What must not live here: the keys themselves (the file holds their hashes), making them (cluster/cli/keys.py), checking
who asks (services/gateway/auth.py).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import logging
import os
import stat
import tempfile
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, field_validator

from cluster.config.base import Name, Section
from cluster.config.file import parse_section, read_text
from cluster.core.errors import SetupError
from cluster.core.tenant import CERTIFICATE, NO_KEY

logger = logging.getLogger(__name__)

KEYS_MAX = 10_000
"""Keys of one file. Reading that many takes about a second, beside the requests."""
PRIVATE_MODE = 0o600
_HEADER = "# API keys of Longreach, hashed. Written by `longreach keys`, which keeps no comments but `comment:`.\n"


class KeySection(Section):
    """One API key."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="What logs and usage call it")
    tenant: Name
    role: Literal["client", "admin"] = "client"
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, lower-case hex")
    created: dt.date
    comment: str = Field(default="", max_length=200)


class KeysFile(Section):
    """The whole file. One without keys lets nobody in."""

    keys: list[KeySection] = Field(max_length=KEYS_MAX)

    @field_validator("keys")
    @classmethod
    def _told_apart(cls, keys: list[KeySection]) -> list[KeySection]:
        ids: set[str] = set()
        hashes: dict[str, str] = {}
        for key in keys:
            if key.id in {NO_KEY, CERTIFICATE}:
                raise ValueError(f"the id {key.id!r} stands for requests without a key")
            if key.id in ids:
                raise ValueError(f"the id {key.id!r} is used twice")
            if key.sha256 in hashes:
                raise ValueError(f"{key.id!r} and {hashes[key.sha256]!r} are the same key")
            ids.add(key.id)
            hashes[key.sha256] = key.id
        return keys


def digest_of(key: str) -> bytes:
    """What a key is known by: its SHA-256, 32 bytes.

    A fast hash without salt is right here, and only because our keys are 256 random bits: there is nothing to guess,
    so slowness and salt, which protect passwords that people choose, would protect nothing and cost every request.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def load_keys(path: Path) -> KeysFile:
    """Read and check a file of keys; warns in the log when others may read it.

    Raises:
        ConfigError: the file cannot be read, or has mistakes; what was given is not repeated, it may be a key.
    """
    text = read_text(path)
    with contextlib.suppress(OSError):
        status = path.stat()
        if _is_open(status):
            mode = oct(stat.S_IMODE(status.st_mode))
            logger.warning("%s can be read by others: chmod 600 it", path, extra={"mode": mode})
    return parse_section(text, KeysFile, origin=str(path), expects="the key keys", is_secret=True)


def _is_open(status: os.stat_result) -> bool:
    """Whether more may read a file than must; one of somebody else's, as Kubernetes mounts it, comes by its group."""
    is_own = status.st_uid == os.geteuid()
    return bool(status.st_mode & (stat.S_IROTH | (stat.S_IRGRP if is_own else 0)))


def save_keys(path: Path, file: KeysFile) -> None:
    """Write the file in one step, readable by its owner only; a file that exists keeps its owner.

    Raises:
        SetupError: it cannot be written.
    """
    text = _HEADER + yaml.safe_dump(file.model_dump(), sort_keys=False, allow_unicode=True)
    # Through a link, what it points at is replaced, not the link.
    target = path.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                _keep_owner(target, stream.fileno())
                os.fchmod(stream.fileno(), PRIVATE_MODE)
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            Path(partial).replace(target)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SetupError(
            f"{path} cannot be written: {error.strerror or error}", "run this as the user that owns the file"
        ) from error


def _keep_owner(target: Path, handle: int) -> None:
    """Give the new file to the old one's owner, or the gateway that runs as that user could no longer read it."""
    with contextlib.suppress(FileNotFoundError):
        owner, mine = target.stat(), os.fstat(handle)
        if (owner.st_uid, owner.st_gid) != (mine.st_uid, mine.st_gid):
            os.fchown(handle, owner.st_uid, owner.st_gid)
