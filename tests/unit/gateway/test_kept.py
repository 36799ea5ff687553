"""Following what Redis keeps: who would fetch how much of a prompt, and when that is forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from cluster.core.lease import ReplicaId
from cluster.core.routing import Fetch, Query
from cluster.core.tier.terms import TierTerms
from services.gateway.kept import Kept
from services.gateway.residency import Residency
from tests.unit.gateway.test_residency import CHUNK, ONE, TEXT, TWO, Clock, Source, entries, lease, prefix

TERMS = TierTerms(fingerprint="f", life_s=1000, least_tokens=32, least_prompt_tokens=48, cost_ratio=0.25)
NOW_S = 1e9


@dataclass
class Entry:
    fingerprint: str
    position: str
    written_s: float
    adds: Sequence[tuple[int, int]]


class KeptSource:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.asked: list[dict[str, str]] = []

    async def read(self, positions: Mapping[str, str], block_ms: int) -> Sequence[Entry]:
        del block_ms
        self.asked.append(dict(positions))
        return [entry for entry in self.entries if entry.position > positions.get(entry.fingerprint, "~")]


class World:
    """Two replicas, the first with a tier."""

    def __init__(self) -> None:
        self.leases = {ONE: replace(lease(ONE), tier=TERMS.to_dict()), TWO: lease(TWO)}
        self.clock = Clock()
        self.source = KeptSource()
        self.kept = Kept(self.source, lambda: self.leases, self.clock, lambda: NOW_S)
        self.residency = Residency(Source(), lambda: self.leases, self.clock, self.kept)

    def keeps(self, chunks: int, *, age_s: float = 0.0, position: str = "1-0") -> None:
        keys, tokens = entries(TEXT, chunks)
        self.source.entries.append(Entry("f", position, NOW_S - age_s, list(zip(keys, tokens, strict=True))))

    async def step(self) -> None:
        self.residency._meet()
        await self.kept._step(self.source)

    def fetches(self, resident: Mapping[ReplicaId, int] | None = None, **of: Any) -> Mapping[ReplicaId, Fetch]:
        return self.residency.fetches(prefix(**of), "m", resident or {}, None)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("services.gateway.kept.BLOCK_MS", 0)
    return World()


async def test_who_has_a_tier_would_fetch_and_that_is_cheaper_than_computing(world: World) -> None:
    world.keeps(8)
    await world.step()
    found = world.fetches()
    assert set(found) == {ONE}
    tokens = found[ONE].tokens
    assert abs(tokens - 8 * CHUNK // 4) <= 16
    assert found[ONE].saved_tokens == int(0.75 * tokens)


async def test_what_is_resident_is_not_fetched_and_worth_more(world: World) -> None:
    world.keeps(8)
    await world.step()
    nothing = world.fetches()[ONE]
    some = world.fetches({ONE: 64})[ONE]
    assert some.tokens == nothing.tokens - 64
    assert nothing.saved_tokens < some.saved_tokens < nothing.tokens
    assert not world.fetches({ONE: nothing.tokens})


async def test_less_than_pays_is_not_fetched(world: World) -> None:
    world.keeps(8)
    await world.step()
    whole = world.fetches()[ONE].tokens
    assert not world.fetches({ONE: whole - TERMS.least_tokens + 1})


async def test_a_prompt_that_is_too_short_to_ask_about_is_not_fetched(world: World) -> None:
    world.keeps(2)
    await world.step()
    assert not world.fetches()


async def test_others_prompts_are_not_theirs(world: World) -> None:
    world.keeps(8)
    await world.step()
    assert not world.fetches(salt="other")
    assert not world.fetches(adapter="a")


async def test_what_is_older_than_its_life_is_not_believed(world: World) -> None:
    world.keeps(8, age_s=1001)
    await world.step()
    assert not world.fetches()


async def test_it_is_forgotten_with_the_last_who_can_read_it_and_learned_again(world: World) -> None:
    world.keeps(8)
    await world.step()
    told = world.leases[ONE]
    world.leases[ONE] = replace(told, tier=None)
    await world.step()
    assert not world.fetches()
    assert world.kept.chunks == 0
    world.leases[ONE] = told
    await world.step()
    assert world.source.asked[-1] == {"f": "0-0"}
    assert world.fetches()


async def test_a_lease_of_another_version_is_passed_over(world: World) -> None:
    world.leases[ONE] = replace(world.leases[ONE], tier={"fingerprint": "f", "cost_ratio": "much"})
    world.keeps(8)
    await world.step()
    assert not world.fetches()


@pytest.mark.parametrize(
    "said",
    [None, [], {}, {**TERMS.to_dict(), "cost_ratio": 2}, {**TERMS.to_dict(), "life_s": 0}, {"fingerprint": 1}],
)
def test_terms_are_read_or_refused(said: Any) -> None:
    assert TierTerms.from_dict(said) is None
    assert TierTerms.from_dict(TERMS.to_dict()) == TERMS


def test_a_query_without_fetches_saves_what_is_resident() -> None:
    need: Any = None
    resident = {ONE: 10}
    assert Query(need, resident=resident).saved is resident
    both = Query(need, resident=resident, fetches={ONE: Fetch(20, 25), TWO: Fetch(30, 20)})
    assert both.saved == {ONE: 25, TWO: 20}
