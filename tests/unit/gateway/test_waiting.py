"""The waiting room: futures, wake-ups and races, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from cluster.config import LimitsSection
from cluster.core.admission.deadline import Deadline
from cluster.core.admission.ticket import Ticket
from cluster.core.lease import PoolName
from cluster.core.tenant import Priority, TenantName
from services.gateway.waiting import RECHECK_S, Admitted, Expired, Expiry, QueueFull, WaitingRoom

POOL, LARGER = PoolName("short"), PoolName("long")
Answer = Admitted[str] | QueueFull | Expired


@dataclass
class World:
    """A pool with a number of free places, and requests that wait for one."""

    now_s: float = 0.0
    free: int = 0
    limits: LimitsSection = field(default_factory=lambda: LimitsSection(queued_requests=4, queue_s=30.0))
    admitted: list[str] = field(default_factory=list)
    attempts: int = 0
    given_back: list[str] = field(default_factory=list)
    tasks: list[asyncio.Task[Answer]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.room = WaitingRoom(clock=lambda: self.now_s, limits=lambda: self.limits)

    def claim(self, name: str) -> str | None:
        self.attempts += 1
        if not self.free:
            return None
        self.free -= 1
        self.admitted.append(name)
        return name

    def give_back(self, name: str) -> None:
        self.given_back.append(name)
        self.free += 1
        self.room.pump(POOL, slots=1)

    async def come(
        self,
        name: str,
        *,
        tenant: str = "a",
        priority: Priority = Priority.NORMAL,
        timeout_s: float | None = None,
        attempt: Callable[[], str | None] | None = None,
    ) -> asyncio.Task[Answer]:
        ticket = Ticket(
            tenant=TenantName(tenant),
            pools=(POOL, LARGER),
            cost_tokens=10,
            arrived_s=self.now_s,
            priority=priority,
            deadline=None if timeout_s is None else Deadline(at_s=self.now_s + timeout_s),
        )
        task: asyncio.Task[Answer] = asyncio.create_task(
            self.room.wait(ticket, attempt=attempt or (lambda: self.claim(name)), give_back=self.give_back), name=name
        )
        self.tasks.append(task)
        await settle()
        return task


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    for task in world.tasks:
        task.cancel()
    await asyncio.gather(*world.tasks, return_exceptions=True)
    assert len(world.room) == 0
    assert world.room._waiters == {}


async def test_a_free_place_goes_to_the_first_in_line_and_to_no_other(world: World) -> None:
    first, second = await world.come("first"), await world.come("second")
    world.free, world.now_s = 1, 2.0
    assert world.room.pump(POOL, slots=1) == 1
    await settle()
    assert first.result() == Admitted(grant="first", waited_s=2.0)
    assert not second.done()
    assert world.attempts == 1
    assert (world.room.counts.admitted, world.room.counts.wait_s_sum, world.room.counts.wait_s_max) == (1, 2.0, 2.0)


async def test_a_wake_up_admits_as_many_as_there_is_room_for(world: World) -> None:
    for name in "abcd":
        await world.come(name)
    world.free = 3
    assert world.room.pump_all() == 3
    assert world.admitted == ["a", "b", "c"]
    assert world.room.pump(POOL) == 0


async def test_a_larger_pools_place_serves_too(world: World) -> None:
    task = await world.come("a")
    world.free = 1
    assert world.room.pump(PoolName("other")) == 0
    assert world.room.pump(LARGER) == 1
    await settle()
    assert task.done()


async def test_classes_go_before_each_other_and_are_counted(world: World) -> None:
    await world.come("low", priority=Priority.LOW)
    await world.come("normal")
    await world.come("high", priority=Priority.HIGH)
    assert [world.room.length(priority) for priority in Priority] == [1, 1, 1]
    world.free = 3
    world.room.pump(POOL)
    assert world.admitted == ["high", "normal", "low"]


async def test_without_waiters_nothing_is_tried_and_no_timer_runs(world: World) -> None:
    assert world.room.pump(POOL) == 0
    assert world.room.pump_all() == 0
    assert world.room._timer is None


async def test_a_full_queue_refuses_at_once_with_a_time(world: World) -> None:
    for number in range(4):
        await world.come(str(number))
    task = await world.come("over")
    assert task.result() == QueueFull(retry_after_s=5)
    # Two a second leave the line.
    for turn in range(1, 9):
        world.now_s, world.free = turn / 2, 1
        world.room.pump(POOL, slots=1)
        await world.come(f"next{turn}")
    task = await world.come("over")
    assert task.result() == QueueFull(retry_after_s=3)
    assert world.room.counts.full == 2


async def test_a_tenant_that_floods_gives_way_to_another(world: World) -> None:
    flood = [await world.come(str(number)) for number in range(4)]
    other = await world.come("other", tenant="b")
    assert flood[3].result() == QueueFull(retry_after_s=5, is_displaced=True)
    assert not other.done()
    assert world.room.counts.displaced == 1


async def test_the_highest_class_has_places_of_its_own(world: World) -> None:
    world.limits = LimitsSection(queued_requests=1, queued_high_requests=2)
    normal = await world.come("normal")
    high = [await world.come(str(number), priority=Priority.HIGH) for number in range(3)]
    assert [task.done() for task in high] == [False, False, False]
    assert isinstance(normal.result(), QueueFull), "the third one took its place"
    assert isinstance((await world.come("over", priority=Priority.HIGH)).result(), QueueFull)
    assert isinstance((await world.come("over too")).result(), QueueFull)


@pytest.mark.parametrize("limits", [{"queued_requests": 0}, {"queue_s": 0.0}])
async def test_without_a_queue_nobody_waits(world: World, limits: dict[str, float]) -> None:
    world.limits = LimitsSection.model_validate(limits)
    assert isinstance((await world.come("a")).result(), QueueFull)


async def test_the_longest_wait_ends_in_time(world: World) -> None:
    task = await world.come("a")
    world.now_s = 29.9
    world.room.sweep()
    await settle()
    assert not task.done()
    world.now_s = 30.0
    world.room.sweep()
    await settle()
    assert task.result() == Expired(cause=Expiry.QUEUE_TIME, waited_s=30.0, retry_after_s=30)
    assert len(world.room) == 0


async def test_a_deadline_ends_the_wait(world: World) -> None:
    task = await world.come("a", timeout_s=3.0)
    world.now_s = 3.0
    world.room.sweep()
    await settle()
    assert task.result() == Expired(cause=Expiry.DEADLINE, waited_s=3.0, retry_after_s=5)
    late = await world.come("b", timeout_s=0.0)
    assert isinstance(late.result(), Expired)
    assert world.room.counts.deadline == 2


async def test_a_deadline_that_cannot_be_met_is_refused_at_once(world: World) -> None:
    for turn in range(4):
        await world.come(f"served{turn}")
        world.now_s, world.free = world.now_s + 10.0, 1
        world.room.pump(POOL)
    await world.come("waits")
    task = await world.come("hopeless", timeout_s=15.0)
    assert task.result() == Expired(cause=Expiry.HOPELESS, waited_s=0.0, retry_after_s=20)
    assert not (await world.come("in time", timeout_s=25.0)).done()
    # Another tenant has its turn after one request of the first, whatever the first has in line.
    assert not (await world.come("fair", tenant="b", timeout_s=25.0)).done()


async def test_a_cancelled_request_leaves_the_line(world: World) -> None:
    first, second = await world.come("first"), await world.come("second")
    first.cancel()
    await settle()
    assert len(world.room) == 1
    world.free = 1
    world.room.pump(POOL)
    await settle()
    assert second.done()
    assert world.room.counts.cancelled == 1


async def test_a_request_cancelled_in_the_same_tick_is_not_admitted(world: World) -> None:
    gone = [await world.come(str(number)) for number in range(3)]
    last = await world.come("last")
    for task in gone:
        task.cancel()
    world.free = 1
    assert world.room.pump(POOL, slots=1) == 1
    assert world.admitted == ["last"]
    await settle()
    assert last.done()


async def test_a_claim_of_a_request_cancelled_right_after_goes_to_the_next(world: World) -> None:
    first, second = await world.come("first"), await world.come("second")
    world.free = 1
    world.room.pump(POOL, slots=1)
    first.cancel()
    await settle()
    assert first.cancelled()
    assert world.given_back == ["first"]
    assert second.result() == Admitted(grant="second", waited_s=0.0)


async def test_a_failing_attempt_is_its_own_requests_fault(world: World) -> None:
    def fail() -> str | None:
        raise ZeroDivisionError

    broken, sound = await world.come("broken", attempt=fail), await world.come("sound")
    world.free = 1
    assert world.room.pump(POOL, slots=1) == 1
    await settle()
    assert isinstance(broken.exception(), ZeroDivisionError)
    assert sound.done()


async def test_an_attempt_that_frees_a_place_does_not_pump_inside_the_pump(world: World) -> None:
    def free_and_claim() -> str | None:
        assert world.room.pump(POOL) == 0
        return "claimed"

    task, other = await world.come("a", attempt=free_and_claim), await world.come("b", tenant="b")
    world.free = 1
    assert world.room.pump(POOL) == 2
    await settle()
    assert task.done()
    assert other.done()


async def test_a_place_that_nobody_told_of_is_found(world: World) -> None:
    task = await world.come("a")
    world.free = 1
    world.room.sweep()
    await settle()
    assert not task.done()
    world.now_s = RECHECK_S
    world.room.sweep()
    await settle()
    assert task.done()


async def test_the_rooms_own_timer_ends_waits_and_stops(world: World) -> None:
    world.limits = LimitsSection(queue_s=0.001)
    task = await world.come("a")
    world.now_s = 1.0
    async with asyncio.timeout(10):
        assert isinstance(await task, Expired)
    assert world.room._timer is None


async def test_many_requests_share_few_places_without_loss_or_excess(world: World) -> None:
    world.limits = LimitsSection(queued_requests=1_000)
    world.free = places = 5
    running = highest = 0

    async def request(number: int) -> None:
        nonlocal running, highest
        name = str(number)
        if world.claim(name) is None:
            ticket = Ticket(
                tenant=TenantName(f"t{number % 7}"), pools=(POOL,), cost_tokens=number % 13, arrived_s=world.now_s
            )
            result = await world.room.wait(ticket, attempt=lambda: world.claim(name), give_back=world.give_back)
            assert isinstance(result, Admitted)
        try:
            running += 1
            highest = max(highest, running)
            for _ in range(number % 5 + 1):
                await asyncio.sleep(0)
        finally:
            running -= 1
            world.free += 1
            world.room.pump(POOL, slots=1)

    tasks = [asyncio.create_task(request(number)) for number in range(500)]
    for turn in range(40):
        await asyncio.sleep(0)
        tasks[turn * 12 + 7].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert all(task.cancelled() or task.exception() is None for task in tasks)
    assert highest == places == world.free
    assert len(world.room) == 0
    # A wake-up tries one request, not the whole line.
    assert world.attempts < 500 + 500 * 2
