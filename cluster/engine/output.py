"""A process's standard output that a full disk cannot end.

Output goes into a log file. Where its disk is full, a write fails, and so does every flush from then on;
multiprocessing flushes before it starts a process, so that no engine could be started until there is room. What must
not live here: where output goes.
"""

from __future__ import annotations

import errno
import io
import os
import sys

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class LossyOutput(io.RawIOBase):
    """Writes to a descriptor that stays open; what the disk has no room for is lost."""

    def __init__(self, descriptor: int) -> None:
        """Write to `descriptor`."""
        super().__init__()
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: object) -> int:
        """Bytes that are done with, written or not.

        Raises:
            OSError: it cannot be written for another reason.
        """
        view = memoryview(data)  # type: ignore[arg-type]
        try:
            return os.write(self._descriptor, view)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            return view.nbytes


def lose_what_has_no_room() -> None:
    """Make this process's standard output and error lossy, line by line."""
    sys.stdout, sys.stderr = _lines(1), _lines(2)


def _lines(descriptor: int) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(LossyOutput(descriptor))
    return io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
