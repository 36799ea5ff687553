"""Which searches for another replica count as asked in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

import pytest

from cluster.core.request import Route
from services.gateway.attempts import Attempts
from services.gateway.metric_labels import Moved
from services.gateway.outcome import Served
from services.gateway.places import Case
from services.gateway.resumption import Resumption
from services.gateway.upstream import UpstreamAnswer, UpstreamFailure

SOMEBODY = cast("UpstreamAnswer", object())
SERVED = cast("Served", object())


class Succession:
    """Asks so many replicas, then does what it is told."""

    def __init__(self, asks: int, then: Callable[[], Awaitable[UpstreamAnswer | None]]) -> None:
        self.asks = asks
        self.then = then

    async def resumed(
        self, case: Case, served: Served, failure: UpstreamFailure, *, is_transports: bool
    ) -> UpstreamAnswer | None:
        raise AssertionError((case, served, failure, is_transports))

    async def moved(self, case: Case, served: Served, why: Moved, *, waits: bool) -> UpstreamAnswer | None:
        assert (served, why, waits) == (SERVED, Moved.DRAIN, False)
        case.attempts = Attempts()
        case.attempts.sent = self.asks
        return await self.then()


async def nobody() -> UpstreamAnswer | None:
    return None


async def somebody() -> UpstreamAnswer | None:
    return SOMEBODY


async def never() -> UpstreamAnswer | None:
    await asyncio.Event().wait()
    return None


def resumption_of(succession: Succession, *, idle_s: float = 60.0) -> Resumption:
    limits = SimpleNamespace(resumes=3, resume_tokens=100, idle_s=idle_s)
    case = SimpleNamespace(
        ask=SimpleNamespace(request=SimpleNamespace(route=Route.CHAT)),
        catalog=SimpleNamespace(config=SimpleNamespace(gateway=SimpleNamespace(limits=limits)), without_resume=()),
        pools=(SimpleNamespace(name="short", verifies=True),),
        attempts=Attempts(),
    )
    return Resumption(cast("Case", case), SERVED, succession)


async def test_only_a_search_that_asked_somebody_counts_until_somebody_goes_on() -> None:
    succession = Succession(1, nobody)
    resumption = resumption_of(succession)
    for asks, counted in ((1, 1), (0, 1), (2, 2)):
        succession.asks = asks
        assert await resumption.elsewhere() is None
        assert resumption.asked_in_vain == counted
    succession.then = somebody
    assert await resumption.elsewhere() is SOMEBODY
    assert resumption.asked_in_vain == 0


async def test_one_that_took_too_long_was_asked_in_vain() -> None:
    resumption = resumption_of(Succession(1, never), idle_s=0.0)
    assert await resumption.elsewhere() is None
    assert resumption.asked_in_vain == 1


async def test_one_that_was_given_up_was_asked_in_vain() -> None:
    resumption = resumption_of(Succession(1, never))
    search = asyncio.ensure_future(resumption.elsewhere())
    await asyncio.sleep(0)
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search
    assert resumption.asked_in_vain == 1
