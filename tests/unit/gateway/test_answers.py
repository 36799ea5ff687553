"""Where answers are kept: a claim that was given up stays given up, and without a store this worker keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from cluster.core.idempotency import Claim, KeptAnswer, Room, Slot, encode_claim
from services.gateway.answers import Answers

SLOT = Slot("t:1")
CLAIM = Claim(fingerprint=bytes(16), owner="g-0")
ANSWER = KeptAnswer(fingerprint=bytes(16), status=200, is_static=False, headers={}, body=b"{}")


class Store:
    """A state store in memory whose renewals can be held up, and which can go away."""

    def __init__(self) -> None:
        self.held: dict[Slot, bytes] = {}
        self.renewing = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.is_away = False

    async def take(self, slot: Slot, claim: Claim) -> bytes | None:
        self._look()
        if slot in self.held:
            return self.held[slot]
        self.held[slot] = encode_claim(claim)
        return None

    async def renew(self, claims: Mapping[Slot, Claim]) -> None:
        self.renewing.set()
        await self.goes_on.wait()
        for slot, claim in claims.items():
            self.held.setdefault(slot, encode_claim(claim))

    async def release(self, slot: Slot, claim: Claim) -> None:
        self._look()
        if self.held.get(slot) == encode_claim(claim):
            del self.held[slot]

    async def put(self, slot: Slot, record: bytes, *, life_s: float, instead_of: Sequence[Slot] = ()) -> None:
        assert life_s > 0
        self._look()
        self.held[slot] = record
        for one in instead_of:
            self.held.pop(one, None)

    def _look(self) -> None:
        if self.is_away:
            raise ConnectionError("taken away")


def answers_of(store: Store | None, *, answers: int = 4) -> Answers:
    return Answers(
        store,
        clock=lambda: 0.0,
        room=lambda: Room(answers=answers, total_bytes=2**20),
        life_s=lambda: 10.0,
        renew_s=0.0,
    )


async def test_a_claim_given_up_during_its_renewal_is_not_there_afterwards() -> None:
    store = Store()
    answers = answers_of(store)
    assert await answers.take(SLOT, CLAIM) is None
    following = asyncio.create_task(answers.follow())
    await store.renewing.wait()
    await answers.release(SLOT)
    assert store.held == {}
    store.goes_on.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert store.held == {}
    following.cancel()


async def test_an_answer_put_during_a_renewal_stays() -> None:
    store = Store()
    answers = answers_of(store)
    assert await answers.take(SLOT, CLAIM) is None
    following = asyncio.create_task(answers.follow())
    await store.renewing.wait()
    assert await answers.put(SLOT, ANSWER) == 0
    store.goes_on.set()
    for _ in range(5):
        await asyncio.sleep(0)
    await answers.release(SLOT)
    assert await answers.take(SLOT, CLAIM) == ANSWER
    following.cancel()


async def test_what_the_store_does_not_take_is_kept_here() -> None:
    store = Store()
    answers = answers_of(store)
    assert await answers.take(SLOT, CLAIM) is None
    store.is_away = True
    assert await answers.put(SLOT, ANSWER) == 0
    assert not answers.is_shared
    await answers.release(SLOT)
    assert await answers.take(SLOT, CLAIM) == ANSWER


async def test_a_worker_alone_keeps_as_many_as_it_may() -> None:
    answers = answers_of(None, answers=2)
    assert not answers.has_store
    slots = [Slot(f"t:{number}") for number in range(3)]
    lost = []
    for slot in slots:
        assert await answers.take(slot, CLAIM) is None
        lost.append(await answers.put(slot, ANSWER))
    assert lost == [0, 0, 1]
    assert [await answers.take(slot, CLAIM) for slot in slots] == [None, ANSWER, ANSWER]


async def test_another_s_claim_and_answer_are_told() -> None:
    store = Store()
    one, two = answers_of(store), answers_of(store)
    assert await one.take(SLOT, CLAIM) is None
    other = Claim(fingerprint=bytes(16), owner="h-0")
    assert await two.take(SLOT, other) == CLAIM
    await one.put(SLOT, ANSWER)
    assert await two.take(SLOT, other) == ANSWER
