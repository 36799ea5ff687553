from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from loadtest.client.ahead import AHEAD, Ahead
from loadtest.plan import Session, Turn

SESSION = Session(at_s=0.0, turns=(Turn(text="x", output_tokens=1),))


def sessions(count: int | None = None) -> Iterator[tuple[int, Session]]:
    numbers = itertools.count() if count is None else range(count)
    return ((number, SESSION) for number in numbers)


async def all_of(ahead: Ahead) -> list[int]:
    found = []
    while (ready := await ahead.next()) is not None:
        found.append(ready.number)
    return found


async def test_every_session_comes_once_and_in_order() -> None:
    ahead = Ahead(sessions(3 * AHEAD), lambda number, _: number)
    async with asyncio.timeout(10):
        assert await all_of(ahead) == list(range(3 * AHEAD))
        assert await ahead.next() is None


async def test_several_may_wait() -> None:
    ahead = Ahead(sessions(100), lambda number, _: number)
    async with asyncio.timeout(10):
        parts = await asyncio.gather(*(all_of(ahead) for _ in range(4)))
    assert sorted(itertools.chain(*parts)) == list(range(100))


async def test_no_more_are_made_than_may_wait() -> None:
    made: list[int] = []
    ahead = Ahead(sessions(), lambda number, _: made.append(number))
    async with asyncio.timeout(10):
        for _ in range(5):
            await ahead.next()
    assert len(made) <= AHEAD + 5 + 1
    ahead.close()
    assert await ahead.next() is None


async def test_what_a_scenario_raises_is_raised_after_what_it_made() -> None:
    def broken() -> Iterator[tuple[int, Session]]:
        yield 0, SESSION
        raise ValueError("of the scenario")

    ahead = Ahead(broken(), lambda number, _: number)
    async with asyncio.timeout(10):
        assert (await ahead.next()) is not None
        with pytest.raises(ValueError, match="of the scenario"):
            await ahead.next()
