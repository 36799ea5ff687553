"""Several worker processes behind one port, and the parent that starts, watches and ends them.

Each worker has a listening socket of its own on the shared port (SO_REUSEPORT), so the kernel spreads connections and a
worker that dies takes only its own. The parent serves no client; its admin listener adds up the workers' metrics and
hands everything else to one of them. What must not live here: what a worker does (main.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cluster.config import Config
from cluster.core.errors import SetupError
from cluster.environment import PARENT_VARIABLE, read_environment
from services.gateway.admin_relay import AdminRelay
from services.gateway.exposition import Snapshot
from services.gateway.ready_file import write_ready_file
from services.gateway.server import KEEPALIVE_S, bind_admin, bind_grpc
from services.http1.listener import Listener, bind
from services.http1.request import ServerLimits

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 120.0
"""Tokenizers of large models take seconds to load; on a busy machine many."""
POLL_S = 0.2
RESTART_FIRST_S = 1.0
RESTART_MAX_S = 30.0
"""A worker that dies at once again and again is started ever less often."""
LIVED_S = 60.0
"""A worker that lived this long did not die of its start."""
ADMIN_BODY_BYTES = 32 * 2**20
EXIT_OK = 0


class _Worker:
    """One worker process, and where it is reached."""

    def __init__(self, index: int, folder: Path) -> None:
        self.index = index
        self.admin_socket = folder / f"worker-{index}.sock"
        self.ready_file = folder / f"worker-{index}.json"
        self.process: subprocess.Popen[bytes] | None = None
        self.started_s = 0.0
        self.restart_s = RESTART_FIRST_S
        self.restart_at_s: float | None = None

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Starts the workers of one gateway and keeps them running."""

    def __init__(self, config: Config, arguments: Sequence[str], *, ready_file: Path | None, folder: Path) -> None:
        """Bind the ports.

        Args:
            config: as the gateway starts with it.
            arguments: what every worker is called with.
            ready_file: written once all workers accept connections.
            folder: private to this gateway, for sockets.

        Raises:
            SetupError: an address cannot be had.
        """
        gateway = config.gateway
        self._host = gateway.host
        # Bound and never listening: the port stays this gateway's, and the kernel sends no connection here.
        self._reserved = bind(gateway.host, gateway.port, share=True, listens=False)
        self._port = int(self._reserved.getsockname()[1])
        self._reserved_grpc = bind_grpc(config)
        self._grpc_port = None if self._reserved_grpc is None else int(self._reserved_grpc.getsockname()[1])
        self._workers = [_Worker(index, folder) for index in range(gateway.workers)]
        self._arguments = tuple(arguments)
        self._ready_file = ready_file
        self._retired: list[Snapshot] = []
        self._is_ending = False
        self._token = secrets.token_hex(32)
        self._relay = AdminRelay(self._sockets, self._retired, self._token)
        limits = ServerLimits(
            header_bytes=gateway.limits.header_bytes,
            header_s=gateway.limits.header_s,
            body_bytes=ADMIN_BODY_BYTES,
            stall_s=gateway.limits.client_stall_s,
            unread_s=gateway.limits.idle_s,
            keepalive_s=KEEPALIVE_S,
        )
        self._admin = Listener(self._relay, lambda: limits, bind_admin(config))

    async def run(self) -> int:
        """Serve until told to stop; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._signal_all, signal.SIGHUP)
        for worker in self._workers:
            self._start(worker)
        try:
            await self._until_ready()
            await self._admin.start()
            self._tell()
            await self._watch()
        finally:
            await self._stop()
        return EXIT_OK

    def _sockets(self) -> list[Path]:
        return [worker.admin_socket for worker in self._workers if worker.is_alive]

    def _start(self, worker: _Worker) -> None:
        worker.ready_file.unlink(missing_ok=True)
        worker.admin_socket.unlink(missing_ok=True)
        # Only the worker keeps it: when it dies, the kernel gives its share of new connections to the others.
        with bind(self._host, self._port, share=True) as listener:
            self._spawn(worker, listener.fileno())

    def _spawn(self, worker: _Worker, descriptor: int) -> None:
        argv = [
            *(sys.executable, "-m", "services.gateway", *self._arguments),
            *("--listen-fd", str(descriptor), "--admin-socket", str(worker.admin_socket)),
            *("--ready-file", str(worker.ready_file)),
        ]
        if self._grpc_port is not None:
            argv += ["--grpc-port", str(self._grpc_port)]
        worker.started_s = asyncio.get_running_loop().time()
        worker.restart_at_s = None
        # A session of its own: ctrl-C reaches the parent, which drains the workers in its own way.
        env = {**read_environment().variables, PARENT_VARIABLE: self._token}
        worker.process = subprocess.Popen(argv, pass_fds=[descriptor], start_new_session=True, env=env)

    async def _until_ready(self) -> None:
        deadline_s = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while not all(worker.ready_file.exists() for worker in self._workers) and not self._is_ending:
            if not all(worker.is_alive for worker in self._workers):
                raise SetupError("a gateway worker did not start", "its reason is above")
            if asyncio.get_running_loop().time() > deadline_s:
                raise SetupError(f"the gateway's workers did not start within {START_TIMEOUT_S:g} s", "see the log")
            await asyncio.sleep(POLL_S)

    async def _watch(self) -> None:
        """Start what died again, until everything has ended."""
        loop = asyncio.get_running_loop()
        while True:
            for worker in self._workers:
                if worker.is_alive:
                    continue
                if not self._is_ending and worker.restart_at_s is None:
                    self._bury(worker, loop.time())
                elif not self._is_ending and worker.restart_at_s is not None and loop.time() >= worker.restart_at_s:
                    self._start(worker)
            if self._is_ending and not any(worker.is_alive for worker in self._workers):
                return
            await self._relay.remember()
            await asyncio.sleep(POLL_S)

    def _bury(self, worker: _Worker, now_s: float) -> None:
        assert worker.process is not None
        lived_s = now_s - worker.started_s
        worker.restart_s = RESTART_FIRST_S if lived_s >= LIVED_S else min(worker.restart_s * 2, RESTART_MAX_S)
        worker.restart_at_s = now_s + worker.restart_s
        logger.error(
            "worker ended, starting it again",
            extra={"worker": worker.index, "status": worker.process.returncode, "in_s": worker.restart_s},
        )
        self._relay.retire(worker.admin_socket)

    def _end(self, number: signal.Signals) -> None:
        self._is_ending = True
        self._signal_all(number)

    def _signal_all(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.is_alive:
                worker.process.send_signal(number)

    async def _stop(self) -> None:
        self._signal_all(signal.SIGKILL)
        for worker in self._workers:
            if worker.process is not None:
                await asyncio.to_thread(worker.process.wait)
        for reserved in (self._reserved, self._reserved_grpc):
            if reserved is not None:
                reserved.close()
        await self._admin.close()
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)

    def _tell(self) -> None:
        told = {"port": self._port, "pid": os.getpid(), "admin_port": self._admin.port}
        if self._grpc_port is not None:
            told["grpc_port"] = self._grpc_port
        logger.info("gateway listens", extra={**told, "workers": len(self._workers)})
        if self._ready_file is not None:
            write_ready_file(self._ready_file, told)


def run_workers(config: Config, arguments: Sequence[str], ready_file: Path | None) -> int:
    """Run a gateway of several processes until it is told to stop; its exit status.

    Raises:
        SetupError: an address cannot be had, or a worker did not start.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix="longreach-gateway-")
    except OSError as error:
        raise SetupError(
            f"there is no folder for the workers' sockets: {error}", "make /tmp writable, or set TMPDIR to one that is"
        ) from error
    with made as folder:
        supervisor = Supervisor(config, arguments, ready_file=ready_file, folder=Path(folder))
        return asyncio.run(supervisor.run())
