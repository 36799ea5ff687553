"""The fault suite on the tests' own cluster: the faults that leave its processes alone, and figures that must be clean.

`longreach chaos run all`, on a cluster of its own with two replicas a pool, is tests/integration/test_chaos.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.environment import read_environment
from cluster.local.journal import read_journal
from cluster.local.rundir import RunDir
from loadtest.chaos.bench import Suite
from loadtest.chaos.faults import FAULTS, clients, stores
from loadtest.chaos.kinds import KINDS
from loadtest.chaos.plan import LONG, SHORT, Plan
from loadtest.chaos.target import Target
from tests.cluster_harness import Cluster, settled

pytestmark = pytest.mark.integration

NAMES = ("redis-slow", "clients-vanish")
SHORTER_S = 5.0
VANISHING = 60


class Quiet:
    """Nobody watches."""

    def begins(self, what: str, steps: int) -> None:
        del what, steps

    def step(self, what: str) -> None:
        del what

    def ends(self) -> None:
        pass


@pytest.mark.timeout(600)
async def test_faults_that_cost_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    await settled(cluster, SHORT, LONG)
    monkeypatch.setattr(stores, "SLOW_S", SHORTER_S)
    monkeypatch.setattr(clients, "VANISHING", VANISHING)
    run_dir = RunDir(root=cluster.run_dir)
    journal = read_journal(run_dir.journal)
    assert journal is not None
    target = Target(
        cluster="test",
        counts={SHORT: 1, LONG: 1},
        url=cluster.url,
        config_file=Path(journal.source),
        run_dir=run_dir,
        environment=read_environment(os.environ),
    )
    known = {fault.name: fault for fault in FAULTS}
    # A model with random weights ends no JSON before its limit, unless its engine leaves out blanks.
    kinds = [kind for kind in KINDS if not kind.is_json]
    suite = Suite(target, Plan(before_s=1, after_s=2), Quiet(), kinds)
    outcomes = await suite.measure([known[name] for name in NAMES])
    assert [outcome.fault for outcome in outcomes] == list(NAMES)
    for outcome in outcomes:
        assert outcome.requests >= len(kinds), outcome
        assert outcome.is_clean, outcome
