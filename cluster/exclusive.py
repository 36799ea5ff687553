"""One at a time: a file lock that can say who holds it.

Standard library only, because the bootstrap runs before anything is installed. What must not live here: what the
lock is for, and waiting for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path


class HeldError(Exception):
    """Somebody else holds the lock; the message names them."""

    def __init__(self, path: Path, holder: dict[str, object]) -> None:
        self.path = path
        self.pid = holder.get("pid")
        self.purpose = str(holder.get("purpose", "another run"))
        self.since = str(holder.get("since", "an unknown time"))
        super().__init__(f"{self.purpose} is already at work: process {self.pid}, since {self.since}")


@contextlib.contextmanager
def hold(path: Path, *, purpose: str) -> Iterator[None]:
    """Hold the lock at `path`; the kernel frees it when this process ends, however it ends.

    The file stays: removing it would let two holders lock two different files of the same name.

    Raises:
        HeldError: another process holds it.
        OSError: the file cannot be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Python's file descriptors are not inherited, so a started process cannot keep the lock alive.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HeldError(path, _holder(handle)) from None
        since = time.strftime("%H:%M:%S")
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "since": since, "purpose": purpose}).encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


_HOLDER_BYTES_MAX = 4096


def _holder(handle: int) -> dict[str, object]:
    try:
        found = json.loads(os.pread(handle, _HOLDER_BYTES_MAX, 0))
    except ValueError:
        # The holder has locked the file and not yet written its name.
        return {}
    return found if isinstance(found, dict) else {}
