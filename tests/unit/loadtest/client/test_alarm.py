from __future__ import annotations

import asyncio
import time

from loadtest.client.alarm import Alarm


async def test_waits_end_in_the_order_of_their_times_and_never_early() -> None:
    alarm = Alarm()
    begin_s = time.monotonic()
    woken: list[tuple[float, float]] = []

    async def wait(after_s: float) -> None:
        await alarm.until(begin_s + after_s)
        woken.append((after_s, time.monotonic() - begin_s))

    await asyncio.gather(*(wait(after_s) for after_s in (0.03, 0.01, 0.02, -1.0, 0.01)))
    alarm.close()
    assert [after_s for after_s, _ in woken] == [-1.0, 0.01, 0.01, 0.02, 0.03]
    assert all(at_s >= after_s for after_s, at_s in woken)


async def test_a_wait_that_is_cancelled_does_not_hold_up_others() -> None:
    alarm = Alarm()
    now_s = time.monotonic()
    given_up = asyncio.ensure_future(alarm.until(now_s + 0.01))
    await asyncio.sleep(0)
    given_up.cancel()
    await alarm.until(now_s + 0.02)
    alarm.close()
    assert given_up.cancelled()
