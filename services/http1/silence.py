"""How long a connection may go without a sign of the other machine before the kernel ends it.

A machine that loses its network, or its power, closes nothing: without this, whoever waits for its answer waits until a
time limit meant for slow prefill. The other side's kernel answers, whatever its processes do, so an engine that is
silent for minutes is not taken for a dead one. What must not live here: limits on an answer itself (client.py).
"""

from __future__ import annotations

import asyncio
import socket

SILENCE_S = 10
"""Longer than a lease lives, so that requests stay where they are while a cable is out for a moment; short enough that
what waits for a dead machine is tried elsewhere before its client gives up."""
PROBE_AFTER_S = 4
PROBE_EVERY_S = 2
PROBES = (SILENCE_S - PROBE_AFTER_S) // PROBE_EVERY_S


def end_when_silent(transport: asyncio.BaseTransport) -> None:
    """Have the kernel watch a TCP connection; where it cannot, connections are watched by time limits alone."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Linux has all of them; on other systems only some exist, or none.
    for name, value in (
        ("TCP_KEEPIDLE", PROBE_AFTER_S),
        ("TCP_KEEPINTVL", PROBE_EVERY_S),
        ("TCP_KEEPCNT", PROBES),
        # Probes stop while sent bytes are unacknowledged; this covers those.
        ("TCP_USER_TIMEOUT", SILENCE_S * 1000),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
