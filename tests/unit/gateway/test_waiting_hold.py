"""The waiting room for requests whose pool has no replica yet."""

from __future__ import annotations

import asyncio

import pytest

from cluster.core.admission.deadline import Deadline
from cluster.core.admission.hold import Hold
from cluster.core.admission.ticket import Ticket
from cluster.core.tenant import TenantName
from services.gateway.waiting import Expired, Expiry
from tests.unit.gateway.test_waiting import POOL, World, settle


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_hold_has_a_limit_of_its_own(world: World) -> None:
    ticket = Ticket(tenant=TenantName("a"), pools=(POOL,), cost_tokens=10, prefill_tokens=7, arrived_s=0.0)
    hold = Hold(limit_s=100.0, starts_in_s=None)
    task = asyncio.create_task(
        world.room.wait(ticket, attempt=lambda: world.claim("x"), give_back=world.give_back, hold=hold)
    )
    await settle()
    world.now_s = 99.0
    world.room.sweep()
    assert not task.done()
    line = world.room.standing()[POOL]
    assert (line.requests, line.prefill_tokens, line.oldest_wait_s) == (1, 7, 99.0)
    world.now_s = 100.0
    world.room.sweep()
    assert await task == Expired(cause=Expiry.QUEUE_TIME, waited_s=100.0, retry_after_s=60)
    assert world.room.standing() == {}


@pytest.mark.parametrize(("starts_in_s", "waits"), [(None, True), (19.0, True), (20.0, False)])
async def test_a_hold_that_the_start_outlasts_is_hopeless(world: World, starts_in_s: float | None, waits: bool) -> None:
    deadline = Deadline(at_s=20.0)
    ticket = Ticket(tenant=TenantName("a"), pools=(POOL,), cost_tokens=10, arrived_s=0.0, deadline=deadline)
    hold = Hold(limit_s=100.0, starts_in_s=starts_in_s)
    task = asyncio.create_task(
        world.room.wait(ticket, attempt=lambda: world.claim("x"), give_back=world.give_back, hold=hold)
    )
    await settle()
    assert task.done() is not waits
    if waits:
        world.now_s = 20.0
        world.room.sweep()
    cause = Expiry.DEADLINE if waits else Expiry.HOPELESS
    found = await task
    assert isinstance(found, Expired)
    assert found.cause is cause
