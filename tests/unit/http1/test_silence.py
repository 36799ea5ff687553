from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

import pytest
import uvloop

from services.http1.pool import ConnectionPool, Origin
from services.http1.silence import PROBE_AFTER_S, PROBE_EVERY_S, PROBES, SILENCE_S

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have some of the options only")


@contextlib.asynccontextmanager
async def quiet_server() -> AsyncIterator[Origin]:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        yield Origin("127.0.0.1", server.sockets[0].getsockname()[1])


@LINUX
def test_the_kernel_watches_every_connection_to_an_endpoint() -> None:
    async def options() -> list[int]:
        async with quiet_server() as origin:
            pool = ConnectionPool()
            connection = await pool.connect(origin, timeout_s=5)
            sock = connection.transport.get_extra_info("socket")
            names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            found = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
            found += [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names]
            await pool.close()
            return found

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the gateway's own
        assert runner.run(options()) == [1, PROBE_AFTER_S, PROBE_EVERY_S, PROBES, SILENCE_S * 1000]


def test_probes_take_as_long_as_sent_bytes_may_wait() -> None:
    assert PROBE_AFTER_S + PROBE_EVERY_S * PROBES == SILENCE_S
