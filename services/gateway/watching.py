"""Files that somebody else replaces, looked at every few seconds.

Kubernetes changes a mounted ConfigMap or Secret by swapping a link to a folder, of which a file's own notifications
tell nothing; so contents are compared. What must not live here: what a change leads to (main.py); API keys, which
follow their file always (access.py).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cluster.config import Config

POLL_S = 2.0
"""Between two looks. Kubernetes itself takes up to a minute to bring a change to a node."""
COMPARED_BYTES_MAX = 4 * 2**20
"""Read of one file: a ConfigMap or Secret holds at most 1 MiB. Of a larger file the rest counts by its length alone."""

Contents = Mapping[Path, str]
"""What each file holds, as a hash; empty where it cannot be read."""


class FileWatch:
    """Calls back once for each change, whatever the call makes of it: a mistake is told once, not at every look."""

    def __init__(
        self,
        files: Callable[[], Iterable[Path]],
        on_change: Callable[[], None],
        *,
        seen: Contents,
        poll_s: float = POLL_S,
    ) -> None:
        """Watch, from `follow` on.

        Args:
            files: to look at; they may change with what they say.
            on_change: called on the event loop.
            seen: what was in force when watching began; a file that is not in it counts as changed.
            poll_s: between two looks.
        """
        self._files = files
        self._on_change = on_change
        self._seen = dict(seen)
        self._poll_s = poll_s

    async def follow(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            found = await asyncio.to_thread(contents, tuple(self._files()))
            if found != self._seen:
                self._seen = dict(found)
                self._on_change()


def watched_files(config_path: Path, config: Config) -> tuple[Path, ...]:
    """What a reload reads: the configuration, and the TLS files it names."""
    tls = config.gateway.tls
    named = () if tls is None else (tls.cert_file, tls.key_file, tls.client_ca_file)
    return (config_path, *(Path(name) for name in named if name is not None))


def contents(files: Iterable[Path]) -> Contents:
    """What these files hold now."""
    return {path: _content(path) for path in files}


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256(file.read(COMPARED_BYTES_MAX))
            digest.update(str(file.seek(0, 2)).encode())
    except OSError:
        return ""
    return digest.hexdigest()
