"""The warm parent's process: it imports once, then forks whatever its replica's engine asks for.

It has one thread once it has imported, or its children could inherit a lock that nobody will release. It ends with its
replica: the pipe that only the replica holds ends, however the replica does, and its children end with it. What must
not live here: what is imported (seam.py), what a child does (child.py).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from cluster.engine import orphans
from cluster.engine.output import lose_what_has_no_room
from cluster.engine.warm import child
from cluster.engine.warm.collecting import without_collections
from cluster.engine.warm.wire import Request, write_number
from cluster.engine.yielding import NICENESS, can_stop, yielding

TITLE = orphans.WARM_PARENT_TITLE


def main(control: int, alive: int, preload: str, arguments: Sequence[str]) -> None:
    """Import, then serve until the replica is gone.

    Args:
        control: socket of the requests.
        alive: pipe whose other end only the replica holds.
        preload: `module:function` that imports.
        arguments: for it.
    """
    _take_title()
    lose_what_has_no_room()
    began_s = time.monotonic()
    module, _, function = preload.partition(":")
    with without_collections():
        yielding(lambda: getattr(importlib.import_module(module), function)(*arguments))
    yields = can_stop()
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1:
        sys.stderr.write(f"warm parent: {threads} threads after the imports, so nothing can be forked safely\n")
        sys.exit(1)
    if yields:
        # What is forked from here yields too, until its engine has started (replica.py).
        os.nice(NICENESS)
    sys.stderr.write(f"warm parent: ready after {time.monotonic() - began_s:.1f} s\n")
    with socket.socket(fileno=control) as requests:
        _Parent(requests, alive).serve()


class _Parent:
    def __init__(self, requests: socket.socket, alive: int) -> None:
        self._requests = requests
        self._alive = alive
        self._statuses: dict[int, int] = {}
        """Process id of a child to its status pipe."""
        self._own: tuple[int, ...] = ()
        """Descriptors that are none of a child's business."""

    def serve(self) -> None:
        woken, wake = os.pipe()
        self._own += (self._requests.fileno(), self._alive, woken, wake)
        os.set_blocking(woken, False)
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, _nothing)
        # Ctrl-C at a terminal is for the replica, which ends its engine in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(wake)
        # Without a descriptor of its own, which children would inherit.
        with selectors.PollSelector() as selector:
            todo: dict[int, Callable[[], bool]] = {
                self._requests.fileno(): self._answer,
                self._alive: self._end,
                woken: lambda: self._collect(woken),
            }
            for descriptor in todo:
                selector.register(descriptor, selectors.EVENT_READ)
            goes_on = True
            while goes_on:
                goes_on = all(todo[key.fd]() for key, _ in selector.select())

    def _answer(self) -> bool:
        request = Request.receive(self._requests)
        if request is None:
            return self._end()
        # Or the child would write again what waits to be written.
        sys.stdout.flush()
        sys.stderr.flush()
        own_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            child.run(request, parent=own_pid, inherited=(*self._own, *self._statuses.values()))
        self._statuses[pid] = request.status
        with contextlib.suppress(OSError):
            write_number(request.status, pid)
        for descriptor in (request.errand, request.control, request.tracker, *request.passed):
            os.close(descriptor)
        return True

    def _collect(self, woken: int) -> bool:
        with contextlib.suppress(BlockingIOError):
            os.read(woken, 4096)
        while self._statuses:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            descriptor = self._statuses.pop(pid)
            with contextlib.suppress(OSError):
                write_number(descriptor, os.waitstatus_to_exitcode(status))
            os.close(descriptor)
        return True

    def _end(self) -> bool:
        """The replica is gone: nobody will ask its engine anything any more, nor end it."""
        found = []
        for pid in self._statuses:
            with contextlib.suppress(psutil.Error):
                found.append(psutil.Process(pid))
        if found:
            orphans.end(found)
        return False


def _take_title() -> None:
    """Before the environment is touched: setproctitle then finds the room that its children's titles need as well."""
    with contextlib.suppress(ImportError):
        import setproctitle

        setproctitle.setproctitle(TITLE)


def _nothing(*_: object) -> None:
    """Only wakes the selector."""
