"""The suite goes on after a fault that came to no end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psutil
import pytest
from redis.exceptions import ConnectionError as RedisAway

from loadtest.chaos.bench import Suite
from loadtest.chaos.fault import Fault
from loadtest.chaos.kinds import KINDS
from loadtest.chaos.plan import Plan
from loadtest.chaos.target import ChaosError, Target


class Silent:
    """Watches nothing."""

    def begins(self, what: str, steps: int) -> None: ...

    def step(self, what: str) -> None: ...

    def ends(self) -> None: ...


def fault_of(error: Exception) -> Fault:
    async def run(_: Target) -> None:
        raise error

    return Fault(name=type(error).__name__, does="fails", run=run)


@pytest.mark.parametrize("error", [ChaosError("no"), RedisAway("away"), psutil.NoSuchProcess(1), TimeoutError()])
async def test_what_a_fault_needs_may_be_away(error: Exception, tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    log.touch()

    async def nothing() -> str:
        return ""

    target = SimpleNamespace(
        url="http://127.0.0.1:1",
        grpc_address="127.0.0.1:1",
        run_dir=SimpleNamespace(log=lambda _: log),
        metrics=nothing,
        whole=nothing,
    )
    suite = Suite(cast("Target", target), Plan(rate_per_s=0.1, before_s=0, after_s=0), Silent(), KINDS[:1])
    outcomes = await suite._all([fault_of(error)] * 2)
    assert [outcome.fault for outcome in outcomes] == [type(error).__name__] * 2
    assert all(outcome.failed for outcome in outcomes)
