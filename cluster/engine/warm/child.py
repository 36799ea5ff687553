"""What a process does between its fork from the warm parent and its target: it becomes what a spawned one would be.

Its own environment, cores, descriptors and signals; and it dies with the parent. What must not live here: the parent's
loop (parent.py), vLLM (seam.py).
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing import process, resource_tracker, spawn
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from cluster.engine.warm.context import Asking
    from cluster.engine.warm.wire import Request

PR_SET_PDEATHSIG = 1
"""prctl(2), from linux/prctl.h. It follows the parent's thread, and the warm parent has one."""
_passed: list[int] = []
"""Descriptors that came with the request, by the number that stands for each in the process's arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a process is to be, before what it is to do."""

    environment: dict[str, str] = field(repr=False)
    cores: frozenset[int] | None
    """It may run on; None keeps the warm parent's."""
    preparation: dict[str, Any]
    """multiprocessing's own: name, key, paths."""
    asking: Asking
    adopt: Callable[[Asking], None] | None
    """Called with `asking`, so that the process's own children come from the warm parent too."""


class Passed:
    """Stands for a descriptor in pickled arguments."""

    def __init__(self, number: int) -> None:
        self._number = number

    def detach(self) -> int:
        """The descriptor, in the process that was forked."""
        return _passed[self._number]


def run(request: Request, *, parent: int, inherited: Iterable[int]) -> NoReturn:
    """Be the process that was asked for, and exit.

    Args:
        request: what came with it.
        parent: process id of the warm parent.
        inherited: descriptors of the warm parent that are none of its children's business.
    """
    code = 1
    try:
        _die_with(parent)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for descriptor in (request.status, *inherited):
            os.close(descriptor)
        _close_stdin()
        code = _work(request)
    except Exception:  # noqa: BLE001 - the root of a process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Past the warm parent's own stack, which goes on only in the warm parent.
        os._exit(code)


def _work(request: Request) -> int:
    resource_tracker._resource_tracker._fd = request.tracker  # type: ignore[attr-defined] # noqa: SLF001 - as forkserver
    _passed[:] = request.passed
    # Its end says that who asked is gone; multiprocessing gives it to the process as its parent's sentinel.
    sentinel = os.dup(request.errand)
    current: Any = process.current_process()
    with open(request.errand, "rb") as stream:  # noqa: PTH123 - a descriptor
        current._inheriting = True  # noqa: SLF001 - as multiprocessing.spawn does: what is unpickled may ask
        try:
            errand: Errand = pickle.load(stream)  # noqa: S301 - from the replica, through a pipe of its own
            os.environ.clear()
            os.environ.update(errand.environment)
            if errand.cores is not None:
                os.sched_setaffinity(0, errand.cores)
            spawn.prepare(errand.preparation)
            if errand.adopt is not None:
                errand.adopt(errand.asking.at(request.control))
            asked: Any = pickle.load(stream)  # noqa: S301 - the same
        finally:
            del current._inheriting  # noqa: SLF001 - the same
    return int(asked._bootstrap(sentinel))  # noqa: SLF001 - multiprocessing's own way into a process


def _die_with(parent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _close_stdin() -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
