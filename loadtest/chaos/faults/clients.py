"""Too many clients, and clients that leave.

What must not live here: what a refusal looks like to one client (docs/api.md).
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from loadtest.chaos.answer import Answer, End
from loadtest.chaos.asking import Asker
from loadtest.chaos.fault import Fault, Told
from loadtest.chaos.kinds import KINDS, Kind
from loadtest.chaos.target import ChaosError, Target
from loadtest.chaos.traffic import Traffic

VANISHING = 500
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a reset, as a client's crash does."""
QUIET_LIMIT_S = 60.0
USUAL = 40
"""More requests than the steady load has under way at the same time, in line included."""
FACTOR = 10
FLOOD_S = 60.0
LEVEL_S = 30.0
LEVEL_LOAD = 0.9
CAPACITY_LIMIT_S = 15.0
AT_ONCE = 32
"""Of two replicas' 16 places of the short pool and what it may borrow: more than it takes to keep them busy."""
REFUSED_WITHIN_S = 0.1
LEVEL_RATIO_MAX = 1.5
TOO_MANY = 429
LIMITS = {"queued_requests": 0}
"""Nobody waits but the steady load: all others are told at once that there is no place."""
HIGH, NORMAL = {"x-longreach-priority": "high"}, {"x-longreach-priority": "normal"}
FLOOD = Kind(name="flood", body={**KINDS[0].body, "max_tokens": 32})


async def vanish(target: Target) -> Told:
    """Many streams whose clients are gone all at once."""
    body = json.dumps({**KINDS[0].body, "max_tokens": 2000}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    where = urlsplit(target.url)
    writers: list[asyncio.StreamWriter] = []

    async def has_come() -> bool:
        return VANISHING / 2 <= await target.total("longreach_in_flight") < math.inf

    try:
        for _ in range(VANISHING):
            _, writer = await asyncio.open_connection(where.hostname, where.port)
            writers.append(writer)
            writer.write(head + body)
        await target.until(has_come, limit_s=QUIET_LIMIT_S, what="the streams of clients that will vanish")
    finally:
        # Also where they are too few: else they would weigh on every fault after this one.
        for writer in writers:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.transport.abort()
    begun_s = time.monotonic()

    async def is_quiet() -> bool:
        # No engine works for anybody but those who are still here.
        running = sum(replica.running for replica in await target.replicas())
        return running <= await target.total("longreach_in_flight") <= USUAL

    await target.until(is_quiet, limit_s=QUIET_LIMIT_S, what="the engines' work for clients that are gone ends")
    return Told(notes=[f"engines free again {time.monotonic() - begun_s:.1f} s after {VANISHING} clients vanished"])


async def overload(target: Target) -> Told:
    """Ten times what the cluster can do, for a minute; the steady load has high priority meanwhile."""
    asker = Asker(target.url, target.grpc_address)
    try:
        per_s = await _capacity(asker)
        level = await _load(asker, per_s * LEVEL_LOAD, LEVEL_S)
        await target.limit(**LIMITS)
        flood = await _load(asker, per_s * FACTOR, FLOOD_S)
    finally:
        await target.limit()
        await asker.close()
    usual_s, flood_s = (_percentile(_firsts(answers), 0.95) for answers in (level, flood))
    ends = {end: [answer for answer in flood if answer.end is end] for end in End}
    refused = ends[End.REFUSED]
    slow = [one for one in refused if one.ended_s - one.sent_s > REFUSED_WITHIN_S]
    times = [one.ended_s - one.sent_s for one in refused]
    lost = len(flood) - len(ends[End.COMPLETE]) - len(refused)
    ratio, level_load = flood_s / usual_s, f"{LEVEL_LOAD:.0%}"
    p50_s, p99_s = _percentile(times, 0.5), _percentile(times, 0.99)
    not_429 = [one for one in refused if one.status != TOO_MANY]
    targets = (
        (f"{lost} of the flood lost", lost == 0),
        (f"{len(not_429)} refusals without 429", not not_429),
        (f"{len(slow)} of {len(refused)} refusals took over {REFUSED_WITHIN_S:g} s", not slow),
        (f"TTFT p95 of those let in {ratio:.2f} times that at {level_load} load", ratio <= LEVEL_RATIO_MAX),
    )
    notes = [
        f"flood: {len(flood):,} sent at {per_s * FACTOR:.0f}/s, {FACTOR} times what the cluster can do",
        f"flood: {len(ends[End.COMPLETE]):,} answered, {len(refused):,} refused with Retry-After, {lost:,} lost",
        f"flood: refusals took {p50_s:.3f} s (p50), {p99_s:.3f} s (p99); {len(slow):,} over {REFUSED_WITHIN_S:g} s",
        f"flood: TTFT p95 of those let in {flood_s:.2f} s, {ratio:.2f} times {usual_s:.2f} s at {level_load} load",
    ]
    return Told(notes=notes, missed=[text for text, is_met in targets if not is_met])


async def _capacity(asker: Asker) -> float:
    """Answers a second that a closed loop gets, beside the steady load."""
    done = 0
    ends_s = time.monotonic() + CAPACITY_LIMIT_S

    async def loop() -> None:
        nonlocal done
        while time.monotonic() < ends_s:
            answer = await asker.ask(FLOOD, headers=NORMAL)
            done += answer.end is End.COMPLETE

    begun_s = time.monotonic()
    await asyncio.gather(*(loop() for _ in range(AT_ONCE)))
    if not done:
        raise ChaosError("the cluster answers nothing in a closed loop")
    return done / (time.monotonic() - begun_s)


async def _load(asker: Asker, rate_per_s: float, seconds: float) -> list[Answer]:
    traffic = Traffic(asker, rate_per_s, kinds=_only(FLOOD), headers=NORMAL)
    traffic.start()
    try:
        await asyncio.sleep(seconds)
        return await traffic.stop()
    finally:
        traffic.abandon()


def _only(kind: Kind) -> Sequence[Kind]:
    return (kind,)


def _firsts(answers: Sequence[Answer]) -> list[float]:
    return [one.first_s - one.sent_s for one in answers if one.end is End.COMPLETE and one.first_s is not None]


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


FAULTS = (
    Fault(name="clients-vanish", does=f"{VANISHING} clients with streams under way are gone at once", run=vanish),
    Fault(
        name="overload",
        does=f"{FACTOR} times what the cluster can do, for {FLOOD_S:g} s; the steady load has high priority",
        run=overload,
        is_short=False,
        headers=HIGH,
    ),
)
