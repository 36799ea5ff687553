"""Signals while an event loop runs."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from cluster.local.interrupt import InterruptedBySignal, raising, run


def test_what_the_work_gives_comes_back() -> None:
    async def work() -> int:
        return 3

    assert run(work()) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_work_and_is_raised_once_it_has_ended(number: signal.Signals) -> None:
    ended: list[str] = []

    async def work() -> None:
        # As from a callback of the loop, where an exception would be logged and lost.
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    before = signal.getsignal(number)
    with pytest.raises(InterruptedBySignal) as caught, raising():
        run(work())
    assert (caught.value.number, ended) == (number, ["work"])
    assert signal.getsignal(number) is before


def test_a_fault_of_the_work_is_its_own() -> None:
    async def work() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run(work())
