"""A long run of load with a drawn fault now and then: whether anything grows that should not.

What must not live here: the faults, the load, slopes (loadtest/report/growth.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from redis.exceptions import RedisError

from loadtest.chaos.answer import Answer
from loadtest.chaos.asking import Asker
from loadtest.chaos.fault import UNMADE, Fault
from loadtest.chaos.outcome import Outcome, outcome_of
from loadtest.chaos.plan import Plan
from loadtest.chaos.seen import Sight
from loadtest.chaos.target import Target, redis_at
from loadtest.chaos.traffic import Traffic, undisturbed
from loadtest.prefix.progress import Watcher

NAME = "soak"
TRIES = 60
"""Of each client: gateways die too."""
ROLES = ("gateway", "redis", "cache")
"""Processes of the journal whose memory and descriptors are followed; replicas are replaced all the time."""
MIB = 2**20
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's own
CALM_S = 10.0
"""After a fault before the cluster is measured: nobody is starting or ending then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The cluster at one calm moment."""

    at_s: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Soaked:
    """What the soak found."""

    outcome: Outcome
    faults: Mapping[str, int]
    """How often each was made."""
    samples: Sequence[Sample]

    def growth(self) -> list[dict[str, Any]]:
        """Of each value: the median of the first and of the last third of the samples."""
        names = sorted({name for sample in self.samples for name in sample.values})
        third = max(1, len(self.samples) // 3)
        return [
            {
                "value": name,
                "first": _median([one.values[name] for one in self.samples[:third] if name in one.values]),
                "last": _median([one.values[name] for one in self.samples[-third:] if name in one.values]),
                "most": max(one.values[name] for one in self.samples if name in one.values),
            }
            for name in names
        ]


async def soak(
    target: Target, faults: Sequence[Fault], plan: Plan, watcher: Watcher, *, seconds: float, every_s: float, seed: int
) -> Soaked:
    """Run the load, and make a drawn fault every so often.

    Args:
        target: the cluster.
        faults: to draw from.
        plan: of the load.
        watcher: told of every fault.
        seconds: the whole run.
        every_s: from one fault's begin to the next, where it is over by then.
        seed: of the draws.

    Raises:
        ChaosError: the cluster stays broken after a fault.
    """
    rng = random.Random(seed)  # noqa: S311 - repeatable draws
    asker = Asker(target.url, target.grpc_address)
    traffic = Traffic(asker, plan.rate_per_s, tries=TRIES)
    sight = Sight(target)
    counts: dict[str, int] = {}
    samples: list[Sample] = []
    failed: list[str] = []
    watcher.begins(NAME, int(seconds / every_s))
    try:
        await target.whole()
        expected: Mapping[str, Answer] = await undisturbed(asker)
        await sight.begin()
        traffic.start()
        begun_s = time.monotonic()
        while (now_s := time.monotonic()) < begun_s + seconds:
            fault = rng.choice(faults)
            watcher.step(fault.does)
            traffic.burst()
            counts[fault.name] = counts.get(fault.name, 0) + 1
            try:
                await fault.run(target)
            except UNMADE as error:
                failed.append(f"{fault.name}: {error or type(error).__name__}")
                await target.whole()
            await asyncio.sleep(CALM_S)
            samples.append(Sample(at_s=time.monotonic() - begun_s, values=await _measured(target)))
            await asyncio.sleep(max(0.0, now_s + every_s - time.monotonic()))
        took_s = time.monotonic() - begun_s
        outcome = outcome_of(
            NAME,
            await traffic.stop(),
            expected,
            broken_s=begun_s,
            recovered_s=took_s,
            seen=[line for lines in await sight.told() for line in lines],
            missed=failed,
        )
        return Soaked(outcome=outcome, faults=counts, samples=samples)
    finally:
        traffic.abandon()
        watcher.ends()
        await asker.close()


async def _measured(target: Target) -> dict[str, float]:
    found = await asyncio.to_thread(_local, target)
    for name, url in (("state", target.state_url), ("blocks", target.cache_url)):
        if url is not None:
            with contextlib.suppress(RedisError, OSError):
                async with redis_at(url) as client:
                    found[f"Redis keys: {name}"] = float(await client.dbsize())
    return found


def _local(target: Target) -> dict[str, float]:
    everybody = target.processes()
    logs = [_size_bytes(file) for file in target.run_dir.logs.rglob("*")]
    found = {
        "processes": float(len(everybody)),
        "memory of all, MiB": sum(map(_resident_bytes, everybody)) / MIB,
        "shared memory files": float(len(list(SHARED_MEMORY.iterdir()))),
        "logs, MiB": sum(logs) / MIB,
    }
    for role in ROLES:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(target.pid(role))
            family = [process, *process.children(recursive=True)]
            found[f"{role}: memory, MiB"] = sum(map(_resident_bytes, family)) / MIB
            found[f"{role}: descriptors"] = float(sum(one.num_fds() for one in family))
    return found


def _size_bytes(file: Path) -> int:
    # It may be gone since it was listed.
    with contextlib.suppress(OSError):
        return file.stat().st_size if file.is_file() else 0
    return 0


def _resident_bytes(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0
