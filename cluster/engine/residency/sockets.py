"""The private folder in which the engine's process and this one meet: events carry the tokens of prompts.

What must not live here: what is said over the sockets (events.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PREFIX = "longreach-kv-"
PATH_BYTES_MAX = 107
"""A Unix socket's address has room for 108 bytes, one of which ends it (unix(7))."""
STARTING_S = 3600.0
"""A folder without sockets belongs to a replica that starts, unless it is older than any start takes."""
EVENTS, REPLAY = "events", "replay"
SHORT_FOLDER = Path("/tmp")  # noqa: S108 - mkdtemp makes a private folder there


@dataclass(frozen=True, slots=True)
class EventSockets:
    """Where the engine publishes, and where it is asked for what was missed."""

    folder: Path

    @property
    def events(self) -> str:
        """The endpoint of the events."""
        return f"ipc://{self.folder / EVENTS}"

    @property
    def replay(self) -> str:
        """The endpoint that repeats them."""
        return f"ipc://{self.folder / REPLAY}"

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def make_event_sockets(*, below: Path | None = None) -> EventSockets:
    """A new folder that only this user can enter, with paths short enough for sockets.

    Raises:
        OSError: no folder can be made.
    """
    parent = below or Path(tempfile.gettempdir())
    # mkdtemp appends eight characters.
    if len(os.fsencode(parent / (PREFIX + "x" * 8) / EVENTS)) > PATH_BYTES_MAX:
        parent = SHORT_FOLDER
    sweep_event_sockets(parent)
    return EventSockets(Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)))


def sweep_event_sockets(parent: Path) -> None:
    """Delete folders of replicas that were killed: those in which nobody listens."""
    for folder in parent.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):
            stat = folder.lstat()
            if stat.st_uid == os.getuid() and not folder.is_symlink() and not _is_used(folder, stat.st_mtime):
                shutil.rmtree(folder, ignore_errors=True)


def _is_used(folder: Path, changed_s: float) -> bool:
    path = folder / EVENTS
    if not path.exists():
        return time.time() - changed_s < STARTING_S
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as client:
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return False
    return True
