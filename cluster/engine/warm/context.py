"""What vLLM is given in place of multiprocessing's spawn context: its processes come from the warm parent.

Where the parent cannot give one (it is gone, or the process needs another environment from its first instruction on),
the process is spawned as vLLM would have done. What must not live here: vLLM (seam.py), starting the parent
(handle.py).
"""

from __future__ import annotations

import io
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing import (
    connection,
    context,
    popen_fork,
    popen_spawn_posix,
    process,
    reduction,
    resource_tracker,
    spawn,
    util,
)
from typing import Any, Self, cast

from cluster.engine.warm.child import Errand, Passed
from cluster.engine.warm.environment import keeps_binding, unchangeable
from cluster.engine.warm.wire import Request, read_number

log = logging.getLogger("longreach.engine")
LOST = 255
"""Exit code of a process whose warm parent is gone before it could tell; as with multiprocessing's fork server."""
PATIENCE_S = 300.0
"""For the parent's imports, on a cold disk; more than that, and it hangs."""
FOREIGN_KEYS = ("init_main_from_path", "init_main_from_name")
"""Of multiprocessing's preparation: they would run the replica's main program again, which is Ray's worker, and no
engine's process needs it."""


class WarmParentError(Exception):
    """The warm parent did not give a process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a process asks its warm parent for another one."""

    control: int
    """Descriptor of the socket for requests."""
    settled: dict[str, str] = field(repr=False)
    """The environment that the parent began with."""
    adopt: Callable[[Asking], None] | None = None

    def at(self, control: int) -> Self:
        """The same, where the socket has another number."""
        return replace(self, control=control)


class WarmContext(context.SpawnContext):
    """Like spawn in everything but where processes come from; locks and queues are spawn's."""

    def __init__(self, asking: Asking) -> None:
        super().__init__()
        self._asking = asking
        self.waited_s: float | None = None
        """How long the first process waited for the parent's imports; None before."""

    def Process(self, *args: Any, **kwargs: Any) -> WarmProcess:  # type: ignore[override] # noqa: N802 - as there
        """A process, not started yet."""
        made = WarmProcess(*args, **kwargs)
        made.context = self
        return made

    def launch(self, asked: WarmProcess) -> Any:
        """Start it; from the warm parent where that can be."""
        environment = dict(os.environ)
        other = unchangeable(environment, self._asking.settled)
        if other:
            log.info("%s is spawned: a fork cannot change %s", asked.name, ", ".join(other))
            return popen_spawn_posix.Popen(asked)
        began_s = time.monotonic()
        try:
            made = WarmPopen(asked, self._asking, environment)
        except WarmParentError as error:
            log.warning("%s is spawned, which is slower: %s", asked.name, error)
            return popen_spawn_posix.Popen(asked)
        if self.waited_s is None:
            self.waited_s = time.monotonic() - began_s
        return made


class WarmProcess(process.BaseProcess):
    """A process that its context starts."""

    _start_method = "spawn"
    context: WarmContext | None = None

    def _Popen(self, process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        assert self.context is not None
        return self.context.launch(process_obj)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "context"}


class WarmPopen(popen_fork.Popen):
    """A process that was forked from the warm parent, as its asker knows it."""

    method = "spawn"
    DupFd = Passed

    def __init__(self, process_obj: Any, asking: Asking, environment: dict[str, str]) -> None:
        self._asking = asking
        self._environment = environment
        self._passed: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Note a descriptor among the arguments; the number that stands for it."""
        self._passed.append(fd)
        return len(self._passed) - 1

    def _launch(self, process_obj: Any) -> None:
        data = self._pickled(process_obj)
        status_here, status_there = os.pipe()
        errand_there, errand_here = os.pipe()
        # A second name for this end, which stays open for as long as this process lives: its child's sentinel.
        sentinel = os.dup(errand_here)
        try:
            try:
                self._ask(errand_there, status_there)
            finally:
                os.close(errand_there)
                os.close(status_there)
            if not connection.wait([status_here], PATIENCE_S):
                raise TimeoutError(f"no answer from the warm parent within {PATIENCE_S:.0f} s")
            self.pid = read_number(status_here)
            with open(errand_here, "wb", closefd=False) as stream:
                stream.write(data)
        except (OSError, EOFError, ValueError) as error:
            for descriptor in (status_here, errand_here, sentinel):
                os.close(descriptor)
            raise WarmParentError(str(error) or type(error).__name__) from error
        os.close(errand_here)
        self.sentinel = status_here
        self.finalizer = util.Finalize(self, _close, (sentinel, status_here))

    def _ask(self, errand: int, status: int) -> None:
        request = Request(
            errand=errand,
            status=status,
            control=self._asking.control,
            tracker=cast("int", resource_tracker.getfd()),
            passed=tuple(self._passed),
        )
        # By another descriptor, which the socket object may close.
        with socket.socket(fileno=os.dup(self._asking.control)) as control:
            request.send(control)

    def _pickled(self, process_obj: Any) -> memoryview:
        preparation = spawn.get_preparation_data(process_obj.name)
        errand = Errand(
            environment=self._environment,
            cores=None if keeps_binding(self._environment) else frozenset(os.sched_getaffinity(0)),
            preparation={name: value for name, value in preparation.items() if name not in FOREIGN_KEYS},
            asking=self._asking,
            adopt=self._asking.adopt,
        )
        stream = io.BytesIO()
        context.set_spawning_popen(cast("Any", self))
        try:
            reduction.dump(errand, stream)
            reduction.dump(process_obj, stream)
        finally:
            context.set_spawning_popen(None)
        return stream.getbuffer()

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code; None while the process runs, unless `flag` says to wait."""
        if self.returncode is None:
            if not connection.wait([self.sentinel], 0 if flag == os.WNOHANG else None):
                return None
            try:
                self.returncode = read_number(self.sentinel)
            except (OSError, EOFError):
                self.returncode = LOST
        return self.returncode


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
