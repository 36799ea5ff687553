"""A server that speaks S3, for tests: moto's, on loopback, with its objects in memory.

What must not live here: what is stored in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.sockets import free_port
from tests.own_packages import installed

LOCK = Path(__file__).with_name("s3_server.txt")
END_LIMIT_S = 30


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """The server's URL; it may not listen yet when this returns.

    Args:
        folder: for its log.

    Raises:
        UnreachableError: it cannot be installed here.
    """
    packages, port = installed("moto", LOCK), free_port()
    with (folder / "s3.log").open("wb") as log:
        # Without site-packages: only its own packages and the standard library.
        process = subprocess.Popen(
            [sys.executable, "-S", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            env={"PYTHONPATH": str(packages), "PATH": os.defpath, "HOME": str(folder)},
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(END_LIMIT_S)
