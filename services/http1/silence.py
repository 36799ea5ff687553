"""How long a connection may go without a sign of the other machine before it is ended.

A machine that loses its network, or its power, closes nothing: without this, whoever waits for its answer waits until a
time limit meant for slow prefill. The other side's kernel answers, whatever its processes do, so an engine that is
silent for minutes is not taken for a dead one, and neither is one that is slow to read a long prompt. What must not
live here: limits on an answer itself (client.py).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from typing import NamedTuple

SILENCE_S = 10.0
"""Longer than a lease lives, so that requests stay where they are while a cable is out for a moment; short enough that
what waits for a dead machine is tried elsewhere before its client gives up."""
PROBE_AFTER_S = 4
PROBE_EVERY_S = 2
PROBES = (int(SILENCE_S) - PROBE_AFTER_S) // PROBE_EVERY_S
ANSWER_S = 1.0
"""What was sent last is given this long: the kernel sends ever more seldom, so what came before may be old."""
WINDOW_PROBES = 3
"""A full receiver gets probes alone, and ever more seldom as well; so many in a row are not lost by chance."""

_TCP_INFO = struct.Struct("=8B13I")
"""Linux, struct tcp_info (include/uapi/linux/tcp.h) up to tcpi_last_ack_recv: of it no field has ever moved."""
_PROBES, _UNACKED, _LAST_DATA_SENT, _LAST_DATA_RECV, _LAST_ACK_RECV = 3, 12, 17, 19, 20


class Standing(NamedTuple):
    """How the kernel sees the other end of a connection."""

    unacked: int
    """Segments that were sent and not acknowledged."""
    probes: int
    """Probes in a row without an answer, of a receiver whose window is full or whose connection is idle."""
    sent_s: float
    """How long ago data was sent last, for the first time or again."""
    heard_s: float
    """How long ago anything came."""

    def is_silent(self, limit_s: float) -> bool:
        """Whether it owes an answer and nothing came for `limit_s`."""
        if self.heard_s < limit_s:
            return False
        # Sent after the last sign of life, and long enough ago to have been answered.
        is_owed = self.unacked > 0 and ANSWER_S <= self.sent_s < self.heard_s
        return is_owed or self.probes >= WINDOW_PROBES


def end_when_silent(transport: asyncio.BaseTransport) -> None:
    """Have the kernel probe a TCP connection on which nothing is under way.

    Its TCP_USER_TIMEOUT would cover sent bytes as well, but Linux also ends connections by it whose other end answers
    each probe and only does not read (tcp(7), zero window). `standing` is for those.
    """
    sock = _tcp(transport)
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Linux has all of them; on other systems only some exist, or none.
    for name, value in (
        ("TCP_KEEPIDLE", PROBE_AFTER_S),
        ("TCP_KEEPINTVL", PROBE_EVERY_S),
        ("TCP_KEEPCNT", PROBES),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def standing(transport: asyncio.BaseTransport) -> Standing | None:
    """What the kernel knows of the other end; None where it does not say, and time limits alone watch."""
    sock = _tcp(transport)
    if sock is None or sys.platform != "linux":
        return None
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:  # closed a moment ago
        return None
    if len(told) < _TCP_INFO.size:
        return None
    values = _TCP_INFO.unpack(told)
    return Standing(
        unacked=values[_UNACKED],
        probes=values[_PROBES],
        sent_s=values[_LAST_DATA_SENT] / 1000,
        heard_s=min(values[_LAST_DATA_RECV], values[_LAST_ACK_RECV]) / 1000,
    )


def _tcp(transport: asyncio.BaseTransport) -> socket.socket | None:
    sock: socket.socket | None = transport.get_extra_info("socket")
    return sock if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6} else None
