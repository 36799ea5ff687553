"""One fault after another on one cluster: load, the fault, load until everything is well again, and what it cost.

What must not live here: the faults (faults/), tables (report.py), starting clusters (loadtest/own_cluster.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.environment import Environment
from loadtest.chaos.answer import Answer
from loadtest.chaos.asking import Asker
from loadtest.chaos.fault import UNMADE, Fault, Told
from loadtest.chaos.kinds import KINDS, Kind
from loadtest.chaos.outcome import Outcome, outcome_of
from loadtest.chaos.plan import CLUSTER, POOLS, REPLICAS, Plan, configuration
from loadtest.chaos.seen import Sight
from loadtest.chaos.small_disk import small_disk
from loadtest.chaos.target import ChaosError, Target
from loadtest.chaos.traffic import Traffic, undisturbed
from loadtest.own_cluster import alone, own_cluster
from loadtest.prefix.progress import Watcher

STEPS = 4
"""Of each fault: load before, the fault until all is well, load after, answers that are still out."""


@contextmanager
def chaos_cluster(*, environment: Environment, console: Console) -> Iterator[Target]:
    """The suite's own cluster.

    Raises:
        SetupError: this machine cannot run it, or another suite is at work.
        InterruptedBySignal: after everything has been taken down again.
    """

    def write(folder: Path, port_min: int) -> Mapping[str, Any]:
        del folder
        return configuration(port_min=port_min)

    with (
        alone(environment.state_home / f"{CLUSTER}.lock", purpose="`longreach chaos`"),
        small_disk(environment) as small,
        own_cluster(CLUSTER, write, purpose="`longreach chaos`", environment=small, console=console) as own,
    ):
        yield Target(
            cluster=CLUSTER,
            counts=dict.fromkeys(POOLS, REPLICAS),
            url=own.url,
            config_file=own.config_file,
            run_dir=own.run_dir,
            environment=small,
        )


class Suite:
    """Makes faults on one cluster."""

    def __init__(self, target: Target, plan: Plan, watcher: Watcher, kinds: Sequence[Kind] = KINDS) -> None:
        """Prepare.

        Args:
            target: the cluster.
            plan: of the load.
            watcher: told of the progress.
            kinds: what is asked.
        """
        self._target, self._plan, self._watcher, self._kinds = target, plan, watcher, kinds
        self._asker = Asker(target.url, target.grpc_address)
        self._expected: Mapping[str, Answer] = {}

    async def measure(self, faults: Sequence[Fault]) -> list[Outcome]:
        """Make each fault in turn; one that comes to no end is told, and ends the suite where the cluster stays broken.

        Raises:
            ChaosError: the cluster does not answer as it should before.
        """
        try:
            self._watcher.begins("undisturbed answers", 1)
            self._watcher.step("each kind, twice")
            await self._target.whole()
            self._expected = await undisturbed(self._asker, self._kinds)
            self._watcher.ends()
            return await self._all(faults)
        finally:
            self._watcher.ends()
            await self._asker.close()

    async def _all(self, faults: Sequence[Fault]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for number, fault in enumerate(faults, 1):
            try:
                outcomes.append(await self._one(fault))
            except UNMADE as error:
                outcomes.append(Outcome(fault=fault.name, failed=str(error) or type(error).__name__))
                try:
                    await self._target.whole()
                except ChaosError:
                    why = f"after {fault.name} the cluster did not become whole again"
                    return [*outcomes, *(Outcome(fault=one.name, skipped=why) for one in faults[number:])]
        return outcomes

    async def _one(self, fault: Fault) -> Outcome:
        lacking = fault.lacks()
        if lacking:
            return Outcome(fault=fault.name, skipped=lacking)
        self._watcher.begins(fault.name, STEPS)
        traffic = Traffic(
            self._asker, self._plan.rate_per_s, kinds=self._kinds, tries=fault.tries, headers=fault.headers
        )
        sight = Sight(self._target)
        try:
            self._watcher.step("load")
            if fault.prepare is not None:
                await fault.prepare(self._target)
            await sight.begin()
            traffic.start()
            # As when the fault is made, so that before and after are alike.
            traffic.burst()
            await asyncio.sleep(self._plan.before_s)
            self._watcher.step(fault.does)
            traffic.burst()
            broken_s = time.monotonic()
            told = await fault.run(self._target) or Told(notes=())
            recovered_s = time.monotonic() - broken_s
            self._watcher.step(f"whole again after {recovered_s:.0f} s; load")
            await asyncio.sleep(self._plan.after_s)
            self._watcher.step(f"the last of {traffic.sent} answers")
            answers = await traffic.stop()
            seen, late = await sight.told()
            unhurt = fault.moves and not any(line.startswith(fault.moves) for line in seen)
            return outcome_of(
                fault.name,
                answers,
                self._expected,
                broken_s=broken_s,
                recovered_s=recovered_s,
                seen=[*told.notes, *seen],
                missed=[*told.missed, *late, *([f"it hit nobody: {fault.moves} did not move"] if unhurt else [])],
            )
        finally:
            traffic.abandon()
            if fault.restore is not None:
                await fault.restore(self._target)
            self._watcher.ends()
