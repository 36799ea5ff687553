"""The replica's voice while its engine lives, stalls and goes; without Ray around it and without an engine in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.core.autoscaling.work import WorkMeter
from cluster.core.errors import EngineStalledError
from cluster.core.lease import Lease, ReplicaId, ReplicaPhase, ReplicaState
from cluster.core.liveness import Health, Verdict
from cluster.engine import replica
from cluster.engine.drain_folder import DrainFolder, ReplicaDrain
from cluster.engine.replica import EngineReplica
from tests.unit.engine.layer_harness import gate
from tests.unit.engine.plans import plan

URL = "http://127.0.0.1:30000"
ALIVE = Verdict(health=Health.ALIVE, reason="steps advance")
UNWRAPPED: Any = EngineReplica.__bases__[0]
"""The class as it is written, below what Serve makes of it."""
STALLED = Verdict(health=Health.STALLED, reason="no step for 9 s")


@dataclass(slots=True)
class Heart:
    """A state store that takes its time when told to."""

    said: list[str] = field(default_factory=list)
    leases: list[Lease] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def report(self, phase: ReplicaPhase, detail: str, *, error: str = "") -> None:
        del detail
        self.said.append(f"{phase} {error}".strip())

    async def renew(self, lease: Lease) -> None:
        self.asked.set()
        await self.answers.wait()
        self.leases.append(lease)
        self.said.append("lease")

    async def withdraw(self) -> None:
        self.said.append("withdrawn")


@dataclass(slots=True)
class Looks:
    """Verdicts in their order; the last one holds until `more` is set."""

    verdicts: list[Verdict]
    more: asyncio.Event
    step_age_s: float = 0.1

    async def look(self) -> Verdict:
        if len(self.verdicts) == 1:
            await self.more.wait()
        return self.verdicts.pop(0)

    def close(self) -> None:
        pass


@dataclass(slots=True)
class Residency:
    """What is published of the cache, besides the lease."""

    heart: Heart
    facts: dict[str, Any] | None = None
    resident_tokens: int = 0

    async def stop(self) -> None:
        self.heart.said.append("residency withdrawn")


class Uncollected(EngineReplica):
    """Serve awaits the destructor; the garbage collector would only call it."""

    def __del__(self) -> None:  # type: ignore[override]
        pass


NOWHERE = Path("/dev/null/drain")
"""Where nobody asks for a drain."""


def made(heart: Heart, looks: Looks, *, drain_dir: Path = NOWHERE) -> Any:
    """A replica that has started."""
    found: Any = object.__new__(Uncollected)
    found._plan = plan()
    found._replica_id = ReplicaId("r1")
    found._heart = heart
    found._vitals = looks
    found._gate = gate()
    found._engine = SimpleNamespace(
        load=SimpleNamespace(running=3, waiting=2, kv_use_ratio=0.5),
        prefill_tokens=900,
        tier_terms={"fingerprint": "f"},
        meter=WorkMeter(),
        shutdown=lambda: heart.said.append("shut down"),
    )
    found._residency = Residency(heart)
    found._told_drain = False
    found._renewal = None
    found._drain = ReplicaDrain(drain_dir, "r1")
    found._ray_cluster = "blue"
    return found


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """What the replica's own health route answers, one after the other; the last for good."""
    answers: list[int | None] = [200]

    async def status(session: object, url: str) -> int | None:
        del session, url
        return answers.pop(0) if len(answers) > 1 else answers[0]

    monkeypatch.setattr(replica, "_status", status)
    monkeypatch.setattr(replica, "LEASE_RENEW_S", 0)
    monkeypatch.setattr("cluster.engine.orphans.engine_processes", list)
    return answers


async def test_a_stalled_engine_takes_the_lease_away_for_good(health: list[int | None]) -> None:
    heart = Heart()
    found = made(heart, Looks([ALIVE, STALLED], heart.asked))
    await found._hold_lease(object(), URL)
    heart.answers.set()
    await asyncio.wait({found._renewal})
    assert heart.said == ["withdrawn", "residency withdrawn", "stalled no step for 9 s"]
    with pytest.raises(EngineStalledError, match="no step for 9 s"):
        await found.check_health()


async def test_a_hanging_store_does_not_keep_from_looking(health: list[int | None]) -> None:
    heart = Heart()
    found = made(heart, Looks([ALIVE] * 20 + [STALLED], heart.asked))
    async with asyncio.timeout(10):
        await found._hold_lease(object(), URL)
    assert heart.said[0] == "withdrawn"


async def test_a_stop_by_serve_takes_the_lease_away_for_good(health: list[int | None]) -> None:
    heart = Heart()
    found = made(heart, Looks([ALIVE, ALIVE], asyncio.Event()))
    found._life = asyncio.create_task(found._hold_lease(object(), URL))
    await heart.asked.wait()
    await UNWRAPPED.__del__(found)
    heart.answers.set()
    await asyncio.wait({found._renewal, found._life})
    assert heart.said == ["withdrawn", "residency withdrawn", "stopped", "shut down"]


async def test_what_failed_to_start_has_nothing_to_stop() -> None:
    await UNWRAPPED.__del__(object.__new__(Uncollected))


@pytest.mark.parametrize(
    ("answers", "state"), [([None, 500, 200], ReplicaState.READY), ([200, 503], ReplicaState.DRAINING)]
)
async def test_only_serves_own_word_means_draining(
    health: list[int | None], answers: list[int | None], state: ReplicaState
) -> None:
    health[:] = answers
    heart = Heart()
    heart.answers.set()
    found = made(heart, Looks([ALIVE] * 10 + [STALLED], heart.asked))
    await found._hold_lease(object(), URL)
    assert heart.leases[-1].state is state
    assert found._gate.draining is (state is ReplicaState.DRAINING)
    assert heart.said.count("draining") == (state is ReplicaState.DRAINING)


async def test_a_hook_that_asks_in_the_first_turn_finds_the_replica(
    health: list[int | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook returns where it finds nobody, and the replica may be a moment from its first lease."""
    folder = DrainFolder(tmp_path / "drain")
    found_by_hook = []

    async def hook_asks(session: object, url: str) -> bool:
        del session, url
        folder.ask()
        found_by_hook.append([(note.replica_id, note.is_draining) for note in folder.notes()])
        return False

    monkeypatch.setattr(replica, "_is_stopping", hook_asks)
    heart = Heart()
    heart.answers.set()
    found = made(heart, Looks([ALIVE, ALIVE, ALIVE, STALLED], heart.asked), drain_dir=tmp_path / "drain")
    await found._hold_lease(object(), URL)
    assert found_by_hook == [[("r1", False)]]
    assert found._gate.draining


@pytest.mark.parametrize(("in_flight", "load"), [(0, (0, 0)), (1, (3, 2))])
async def test_the_lease_counts_only_what_is_here(in_flight: int, load: tuple[int, int]) -> None:
    found = made(Heart(), Looks([ALIVE], asyncio.Event()))
    found._gate.in_flight = in_flight
    lease = found._lease(URL)
    assert (lease.running, lease.waiting) == load
    assert (lease.url, lease.pool, lease.context_tokens) == (f"{URL}/short", "short", 32768)


async def test_the_lease_says_what_the_replica_holds() -> None:
    found = made(Heart(), Looks([ALIVE], asyncio.Event()))
    found._plan = plan(
        "engine: {max_running: 5, max_queued: 3}",
        model="{id: tiny, lora: [{name: sql, path: /a}, {name: poem, path: /b}]}",
    )
    lease = found._lease(URL)
    assert (lease.max_running, lease.max_waiting, lease.prefill_tokens) == (5, 3, 900)
    assert lease.adapters == ("sql", "poem")
    assert lease.prefix is None
    found._residency.facts = {"format": 1}
    assert found._lease(URL).prefix == {"format": 1}


async def test_what_the_ping_raises_is_the_end(health: list[int | None]) -> None:
    heart = Heart()

    async def look() -> Verdict:
        raise ConnectionError("core gone")

    found = made(heart, Looks([], asyncio.Event()))
    found._vitals = SimpleNamespace(look=look)
    await found._hold_lease(object(), URL)
    assert heart.said == ["withdrawn", "residency withdrawn", "stalled ConnectionError: core gone"]
