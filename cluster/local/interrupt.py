"""Ctrl-C, `kill` and a closed terminal, all as one exception, so that one `except` cleans up after all three.

What must not live here: the cleaning up.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


T = TypeVar("T")


class InterruptedBySignal(BaseException):
    """Somebody asked this process to stop. Not an Exception, so that no handler for faults swallows it."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)

    @property
    def exit_status(self) -> int:
        """What a shell expects of a process that a signal ended."""
        return 128 + self.number


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Within, the signals raise `InterruptedBySignal`; one that is ignored (nohup) stays ignored."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise InterruptedBySignal(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def counted() -> Iterator[list[signal.Signals]]:
    """Within, the signals are only noted, in this list: for work that ends in an orderly way by itself."""
    came: list[signal.Signals] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: came.append(signal.Signals(number)))
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within, the signals do nothing: a teardown that is cut short would leave what it came to remove."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` where signals raise: an event loop would swallow what is raised in one of its callbacks.

    Raises:
        InterruptedBySignal: a signal came; `work` was cancelled, and has ended.
    """
    came: list[int] = []

    async def main() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)

        def interrupt(number: int) -> None:
            came.append(number)
            task.cancel()

        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                loop.add_signal_handler(number, interrupt, number)
        return await task

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if came:
            raise InterruptedBySignal(came[0]) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
