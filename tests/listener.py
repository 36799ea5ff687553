"""A real server of somebody else on a port, for tests of taken ports."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

SERVER = """import socket, sys
s = socket.create_server((sys.argv[2], int(sys.argv[3])))
print(s.getsockname()[1], flush=True)
sys.stdin.read()"""


@contextlib.contextmanager
def listener(host: str = "127.0.0.1", port: int = 0) -> Iterator[tuple[int, int]]:
    """Another process that listens; its pid and port. `somebody-elses-server` is in its command line."""
    command = [sys.executable, "-c", SERVER, "somebody-elses-server", host, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()
