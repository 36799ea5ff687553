"""Who shares an answer: those that wait for its beginning, those that read it, and the last one that leaves."""

from __future__ import annotations

import asyncio
import contextlib

from cluster.core.idempotency import Claim
from services.api.refusals import internal
from services.api.run import Run, Shared
from services.api.tape import Tape, TapeRoom

CLAIM = Claim(fingerprint=bytes(16), owner="g-0")


def tape_of(most_bytes: int = 1000) -> tuple[Tape, TapeRoom]:
    room = TapeRoom(lambda: most_bytes)
    return Tape(200, {}, room), room


def run_of() -> Run:
    run = Run(CLAIM)
    run.task = asyncio.get_running_loop().create_task(asyncio.Event().wait())  # type: ignore[arg-type]
    return run


async def turns() -> None:
    """Long enough for a timer of no time to have fired, and its task to have heard of it."""
    for _ in range(5):
        await asyncio.sleep(0)


async def given_up(run: Run) -> bool:
    assert run.task is not None
    with contextlib.suppress(asyncio.CancelledError):
        await run.task
    return run.task.cancelled()


async def test_all_who_wait_get_a_reader_of_their_own_or_the_refusal() -> None:
    for refusal in (None, internal()):
        run, (tape, _) = run_of(), tape_of()
        waiting = [asyncio.create_task(run.begun()) for _ in range(3)]
        await asyncio.sleep(0)
        if refusal is None:
            run.begin(tape, is_static=True)
            found = [*await asyncio.gather(*waiting), await run.begun()]
            assert len({id(shared.answer) for shared in found if isinstance(shared, Shared)}) == 4
        else:
            run.refuse(refusal)
            assert [*await asyncio.gather(*waiting), await run.begun()] == [refusal] * 4


async def test_who_leaves_in_the_moment_of_the_beginning_holds_nothing() -> None:
    run, (tape, room) = run_of(), tape_of()
    waiting = asyncio.create_task(run.begun())
    await asyncio.sleep(0)
    run.begin(tape, is_static=False)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    tape.put(b"all", is_last=True, most_bytes=1000)
    run.close(internal())
    assert room.held_bytes == 0


async def test_an_answer_is_given_up_once_nobody_came_back_in_time() -> None:
    run = run_of()
    run.enter()
    run.leave(0)
    assert await given_up(run)
    assert not run.can_join


async def test_who_comes_back_in_time_keeps_it() -> None:
    run = run_of()
    run.enter()
    run.leave(0)
    run.enter()
    await turns()
    assert run.task is not None
    assert not run.task.done()
    assert run.can_join


async def test_what_is_made_is_not_given_up() -> None:
    run = run_of()
    run.enter()
    run.made()
    run.leave(0)
    await turns()
    assert run.task is not None
    assert not run.task.done()


async def test_an_answer_that_has_become_too_large_is_given_up_with_its_last_reader() -> None:
    run, (tape, _) = run_of(), tape_of()
    run.enter()
    run.begin(tape, is_static=False)
    shared = await run.begun()
    assert isinstance(shared, Shared)
    tape.put(b"all", is_last=False, most_bytes=1)
    assert not run.can_join
    shared.answer.close()
    assert await given_up(run)


async def test_whoever_waits_at_the_end_is_told_why() -> None:
    run = run_of()
    waiting = asyncio.create_task(run.begun())
    await asyncio.sleep(0)
    run.close(internal())
    assert await waiting == internal()


async def test_a_room_takes_one_answer_of_any_size_and_others_within_its_bound() -> None:
    tape, room = tape_of(most_bytes=10)
    assert room.fits(1000)
    tape.fill(b"123456")
    assert room.fits(4)
    assert not room.fits(5)
