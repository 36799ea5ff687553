"""A replica's hold on its warm parent: starting it beside the replica's own imports, and letting go of it.

What must not live here: what it does (parent.py), who asks it for processes (context.py).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from cluster.engine.warm.context import Asking

END_WAIT_S = 5.0
"""It ends at once, or is killed: its children have been told before."""


class WarmParent:
    """A started warm parent; it ends when this process does, or at `close`."""

    def __init__(self, process: subprocess.Popen[bytes], *, control: socket.socket, alive: int, asking: Asking) -> None:
        self._process = process
        self._control = control
        self._alive = alive
        self.asking = asking

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def close(self) -> None:
        """End it, and whatever of its children still runs. Blocks for at most `END_WAIT_S`."""
        if self._process.returncode is not None:
            return
        with contextlib.suppress(OSError):
            os.close(self._alive)
        self._control.close()
        try:
            self._process.wait(timeout=END_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start_parent(
    environment: Mapping[str, str],
    *,
    preload: str,
    arguments: Sequence[str] = (),
    adopt: Callable[[Asking], None] | None = None,
) -> WarmParent:
    """Start a warm parent; returns at once, and requests wait for its imports.

    Args:
        environment: its whole environment, with the owner's mark.
        preload: `module:function` that imports, see `parent.main`.
        arguments: of that function.
        adopt: makes a forked process's own children come from the parent too.

    Raises:
        OSError: it cannot be started.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Not inheritable, as every descriptor of Python: nobody but this process keeps it open.
    alive_there, alive_here = os.pipe()
    call = f"main({theirs.fileno()}, {alive_there}, {preload!r}, {list(map(str, arguments))!r})"
    # As multiprocessing does: modules are found where this process finds them.
    program = f"import sys; sys.path[:] = {sys.path!r}; from {_PARENT} import main; {call}"
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), alive_there),
            # Ray kills the process group of a worker that has died, and would so before the shared memory is removed.
            # The session stays: the scheduler's weight hangs on it.
            process_group=0,
        )
    except OSError:
        ours.close()
        os.close(alive_here)
        raise
    finally:
        theirs.close()
        os.close(alive_there)
    asking = Asking(control=ours.fileno(), settled=dict(environment), adopt=adopt)
    return WarmParent(process, control=ours, alive=alive_here, asking=asking)


_PARENT = "cluster.engine.warm.parent"
