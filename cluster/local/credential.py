"""The secret of one run of a cluster: made by `up`, shown by its gateway, asked for by its replicas.

It travels in the environment of the two processes that need it and lies in a file that its owner alone can read.
What must not live here: comparing it (cluster/engine/layer.py).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cluster.environment import CREDENTIAL_VARIABLE

SECRET_BYTES = 32
"""256 bits: nobody guesses it."""
OWNER_ONLY = 0o600


def make_credential(path: Path, shared: str | None = None) -> str:
    """The secret of this run, written to `path`; one of an earlier run is replaced.

    Args:
        path: the file.
        shared: what the caller of `up` gave, for clusters behind one gateway; None makes a new one.
    """
    secret = shared or secrets.token_urlsafe(SECRET_BYTES)
    path.unlink(missing_ok=True)
    # Created with its mode, and never open to others for a moment; a file or link that somebody put there is refused.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, OWNER_ONLY)
    try:
        os.write(descriptor, secret.encode())
    finally:
        os.close(descriptor)
    return secret


def with_credential(env: Mapping[str, str], secret: str) -> dict[str, str]:
    """The environment of a process that gets the secret."""
    return {**env, CREDENTIAL_VARIABLE: secret}


def without_credential(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of all others, whatever the caller of `up` has set."""
    return {name: value for name, value in env.items() if name != CREDENTIAL_VARIABLE}
