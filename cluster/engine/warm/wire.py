"""What a warm parent and those who ask it for a process tell each other: descriptors one way, numbers the other.

A request is one message with descriptors, in the order of `Request`. The answer comes through its status pipe: the
process id, and later the exit code; an end of file instead means that the parent is gone. What must not live here:
processes.
"""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from typing import Self

NUMBER = struct.Struct("q")
FORK = b"fork"
MAX_DESCRIPTORS = 250
"""The kernel's limit for one message is 253 (unix(7), SCM_RIGHTS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The descriptors of one request."""

    errand: int
    """Read end of the pipe that brings the process what it is to do."""
    status: int
    """Write end of the pipe for the answer."""
    control: int
    """For requests of the new process itself."""
    tracker: int
    """Of multiprocessing's resource tracker, which the new process shares with who asked."""
    passed: tuple[int, ...]
    """What the process's arguments hold."""

    def send(self, control: socket.socket) -> None:
        """Send it, as one message.

        Raises:
            OSError: nobody listens.
            ValueError: too many descriptors.
        """
        fds = [self.errand, self.status, self.control, self.tracker, *self.passed]
        if len(fds) > MAX_DESCRIPTORS:
            raise ValueError(f"{len(fds)} descriptors for one process, the limit is {MAX_DESCRIPTORS}")
        socket.send_fds(control, [FORK], fds)

    @classmethod
    def receive(cls, control: socket.socket) -> Self | None:
        """The next request; None when nobody can ask any more."""
        message, fds, _, _ = socket.recv_fds(control, len(FORK), MAX_DESCRIPTORS)
        if not message:
            return None
        for descriptor in fds:
            os.set_inheritable(descriptor, False)
        errand, status, own, tracker, *passed = fds
        return cls(errand=errand, status=status, control=own, tracker=tracker, passed=tuple(passed))


def write_number(descriptor: int, number: int) -> None:
    """Write a process id or an exit code; a pipe takes so few bytes at once.

    Raises:
        OSError: who asked is gone.
    """
    os.write(descriptor, NUMBER.pack(number))


def read_number(descriptor: int) -> int:
    """Read what `write_number` wrote; waits for it.

    Raises:
        EOFError: the other side is gone.
    """
    data = os.read(descriptor, NUMBER.size)
    if len(data) < NUMBER.size:
        raise EOFError("the warm parent is gone")
    return int(NUMBER.unpack(data)[0])
