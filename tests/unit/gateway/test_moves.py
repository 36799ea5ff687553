"""When streams leave a draining replica, and how many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from cluster.core.lease import Lease, ReplicaId
from services.gateway.moves import AT_ONCE, WAITS_S, Moves
from services.gateway.open_answers import OpenAnswers
from services.gateway.resuming import ResumableAnswer
from services.gateway.upstream import UpstreamAnswer
from tests.gateway_harness import lease

OLD = lease("short", "http://old", name="old", state="draining")
NEW = lease("short", "http://new", name="new")


class Stream(ResumableAnswer):
    """Looks for somebody until it is told that the search is over."""

    asked_in_vain = 0

    def __init__(self) -> None:
        self.searches: list[asyncio.Future[None]] = []

    def leave(self) -> asyncio.Task[None]:
        self.searches.append(asyncio.get_running_loop().create_future())
        return cast("asyncio.Task[None]", self.searches[-1])

    async def stays(self, *, asked: bool) -> None:
        """Its search ends, after it asked somebody in vain or found no place."""
        self.asked_in_vain += asked
        self.searches[-1].set_result(None)
        await settle()


class Scene:
    """Streams of one replica, and the clock."""

    def __init__(self, streams: int, *leases: Lease, after_s: float | None = 10.0) -> None:
        self.now_s = 100.0
        self.leases = {one.replica_id: one for one in leases}
        self.answers = OpenAnswers()
        self.streams = [Stream() for _ in range(streams)]
        for stream in self.streams:
            self.answers.opened(OLD.replica_id, stream)
        read: Callable[[], dict[ReplicaId, Lease]] = lambda: self.leases  # noqa: E731 - as directories do
        self.moves = Moves(self.answers, read, lambda: after_s, lambda: self.now_s)

    def step(self, after_s: float) -> list[int]:
        """How often each stream has looked so far."""
        self.now_s += after_s
        self.moves.step()
        return [len(stream.searches) for stream in self.streams]


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_they_leave_after_the_set_time() -> None:
    scene = Scene(1, OLD, NEW)
    assert scene.step(0) == [0]
    assert scene.step(9.9) == [0]
    assert scene.step(0.1) == [1]


async def test_a_drain_that_ended_begins_anew() -> None:
    scene = Scene(1, OLD, NEW)
    scene.step(0)
    scene.leases = {}
    scene.step(8)
    scene.leases = {OLD.replica_id: OLD}
    assert scene.step(8) == [0]
    assert scene.step(10) == [1]


async def test_nobody_leaves_a_replica_that_takes_work_or_where_nobody_shall() -> None:
    ready = lease("short", "http://old", name="old")
    for scene in (Scene(1, ready), Scene(1, OLD, after_s=None)):
        scene.step(0)
        assert scene.step(1000) == [0]


async def test_a_few_look_at_once_and_the_next_as_soon_as_one_has_ended() -> None:
    scene = Scene(AT_ONCE + 2, OLD, after_s=0.0)
    assert scene.step(0) == [1] * AT_ONCE + [0, 0]
    await scene.streams[1].stays(asked=False)
    assert [len(stream.searches) for stream in scene.streams] == [1] * AT_ONCE + [1, 0]


async def test_who_found_nobody_tries_again_in_the_next_step_and_not_before() -> None:
    scene = Scene(1, OLD, after_s=0.0)
    scene.step(0)
    await scene.streams[0].stays(asked=False)
    assert len(scene.streams[0].searches) == 1
    assert scene.step(0.5) == [2]


async def test_who_asked_in_vain_waits_longer_each_time_within_a_bound() -> None:
    scene = Scene(1, OLD, after_s=0.0)
    scene.step(0)
    for count, wait_s in enumerate([*WAITS_S, WAITS_S[-1], WAITS_S[-1]], 1):
        await scene.streams[0].stays(asked=True)
        assert scene.step(wait_s - 0.5) == [count]
        assert scene.step(0.5) == [count + 1]


async def test_who_found_no_place_after_all_that_tries_again_in_the_next_step() -> None:
    scene = Scene(1, OLD, after_s=0.0)
    scene.step(0)
    await scene.streams[0].stays(asked=True)
    assert scene.step(WAITS_S[0]) == [2]
    await scene.streams[0].stays(asked=False)
    assert scene.step(0.5) == [3]


@pytest.mark.parametrize("asked", [True, False])
async def test_those_who_look_long_do_not_keep_others_from_looking(asked: bool) -> None:
    scene = Scene(AT_ONCE + 2, OLD, after_s=0.0)
    scene.step(0)
    assert scene.step(120) == [1] * AT_ONCE + [0, 0]
    for stream in scene.streams[:AT_ONCE]:
        await stream.stays(asked=asked)
    assert [len(stream.searches) for stream in scene.streams] == [1] * (AT_ONCE + 2)
    await scene.streams[-2].stays(asked=asked)
    # The last one looks still; of the others it is the turn of those whose try is longest ago.
    assert scene.step(WAITS_S[0]) == [2] * (AT_ONCE - 1) + [1, 1, 1]


async def test_answers_that_cannot_move_are_left_alone() -> None:
    scene = Scene(1, OLD, after_s=0.0)
    scene.answers.opened(OLD.replica_id, cast("UpstreamAnswer", object()))
    assert scene.step(0) == [1]
