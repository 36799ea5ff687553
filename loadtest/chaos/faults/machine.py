"""The machine below: its disk, its clock.

What must not live here: processes of the cluster as such.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import signal
import time
from pathlib import Path

from cluster.local.stores import STATE_PROCESS
from loadtest.chaos.fault import Fault
from loadtest.chaos.faults.gateways import restart_gateway
from loadtest.chaos.plan import SHORT
from loadtest.chaos.small_disk import is_small_disk, why_none
from loadtest.chaos.supervised import Supervised
from loadtest.chaos.target import ChaosError, Target, redis_at

FULL_S = 10.0
PIECE_BYTES = 2**20
SECTOR_BYTES = 512
"""For the rest, which is smaller than a piece."""
LIBRARY = "/usr/lib/*/faketime/libfaketime.so.1"
STEPS_S = (3_600, -3_600, 0)
NEAR_S = 60.0
STEP_LASTS_S = 8.0
"""Twice a lease's life."""


async def fill_disk(target: Target) -> None:
    """No byte is left for logs, the run folder and the model cache, while a replica dies and is replaced."""
    root = target.run_dir.root
    if not is_small_disk(root):
        raise ChaosError(f"{root} is not on the suite's own file system, and no other is filled")
    filler = root / "filler"
    victim = await target.busiest(SHORT)
    try:
        await asyncio.to_thread(_fill, filler)
        await asyncio.sleep(FULL_S)
        os.kill(victim.pid, signal.SIGKILL)
        await target.whole(without=victim.replica_id)
    finally:
        filler.unlink(missing_ok=True)


def _fill(path: Path) -> None:
    for size_bytes in (PIECE_BYTES, SECTOR_BYTES):
        with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
            while True:
                file.write(b"\0" * size_bytes)


def _library() -> str:
    return next(iter(sorted(glob.glob(LIBRARY))), "")  # noqa: PTH207 - of an absolute pattern


def _no_library() -> str:
    return "" if _library() else "setting the clock of single processes needs libfaketime (Debian: libfaketime)"


def _offset_file(target: Target) -> Path:
    return target.run_dir.root / "clock"


async def own_clock(target: Target) -> None:
    """Give the gateway and the state store a clock of their own."""
    file = _offset_file(target)
    file.write_text("+0s", encoding="ascii")
    variables = {
        "LD_PRELOAD": _library(),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    await _restart_both(target, variables)


async def usual_clock(target: Target) -> None:
    """The machine's clock again."""
    await _restart_both(target, {"LD_PRELOAD": ""})


async def _restart_both(target: Target, variables: dict[str, str]) -> None:
    store = Supervised(target.run_dir, STATE_PROCESS)
    await store.kill()
    store.start(variables)
    await restart_gateway(target, variables=variables)
    await target.whole()


async def step_clock(target: Target) -> None:
    """An hour forward, an hour back behind where it was, and right again."""
    for offset_s in STEPS_S:
        _offset_file(target).write_text(f"{offset_s:+d}s", encoding="ascii")
        await asyncio.sleep(STEP_LASTS_S)
        found_s = await _clock_of_redis(target) - time.time()
        if abs(found_s - offset_s) > NEAR_S:
            raise ChaosError(f"the clock of Redis is {found_s:+.0f} s off and should be {offset_s:+d} s")
    await target.whole()


async def _clock_of_redis(target: Target) -> float:
    async with redis_at(target.state_url) as client:
        seconds, microseconds = await client.time()
    return float(seconds) + float(microseconds) / 1e6


FAULTS = (
    Fault(
        name="disk-full",
        does="no space for logs and the model cache, while a replica dies and is replaced",
        run=fill_disk,
        lacks=why_none,
    ),
    Fault(
        name="clock-step",
        does="the clock of gateway and Redis an hour forward, an hour back, and right again",
        run=step_clock,
        is_short=False,
        prepare=own_clock,
        restore=usual_clock,
        lacks=_no_library,
    ),
)
