"""Engines that are down, clients that leave, retries that must not multiply: a gateway process over many requests."""

from __future__ import annotations

import asyncio
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import LEASED, SHAPES, STATIC, Pool, Shape, fleet, for_each

pytestmark = pytest.mark.integration

KINDS = pytest.mark.parametrize("kind", [STATIC, LEASED])
LIMITS = {"connect_s": 1, "idle_s": 60}
FREE_RETRIES_PER_S = 10
FREE_RETRIES_S = 10
"""What a retry budget may grant beside its share of recent requests: so many a second, saved for so long."""
TRIES = 5
"""A quick thing may be slowed by the machine; it never becomes quick by chance. So the best of a few tries counts."""


@KINDS
async def test_with_one_engine_of_two_down_none_of_200_requests_fails(kind: str, tmp_path: Path) -> None:
    async def check(pool: Pool, killed_after: int) -> None:
        statuses: list[int] = []

        async def client() -> None:
            while len(statuses) < 200:
                statuses.append((await pool.post(running.client)).status_code)
                if len(statuses) == killed_after:
                    await pool.kill_first()

        if killed_after == 0:
            await pool.kill_first()
        await asyncio.gather(*(client() for _ in range(8)))
        assert [status for status in statuses if status != 200] == []
        assert (pool.counts[0] > 0) is (killed_after > 0)

    async with fleet(tmp_path, kind, pools=2, think_s=0.02, limits={"connect_s": 1}) as running:
        await for_each(running, [(0,), (100,)], check)


@KINDS
async def test_a_client_that_leaves_reaches_the_engine_within_100_ms(kind: str, tmp_path: Path) -> None:
    async def leave(pool: Pool, shape: Shape, when: str, leaves_by: str) -> float:
        """Seconds from the client's leaving to the engine's noticing."""
        engine = pool.engines[0]
        engine.aborted.clear()
        engine.started.clear()
        async with pool.asked(shape) as connection:
            await asyncio.wait_for(engine.started.wait(), 5)
            if when == "after the first byte" and shape.stream:
                await asyncio.wait_for(connection.reader.readuntil(b"token1 "), 5)
            else:
                await asyncio.sleep(0.1)  # the engine has done what it does: nothing comes that could be waited for
            left_s = time.monotonic()
            connection.reset() if leaves_by == "reset" else connection.close()
            await asyncio.wait_for(engine.aborted.wait(), 5)
        return engine.aborted_s[-1] - left_s

    async def check(pool: Pool, shape: Shape, when: str, leaves_by: str) -> None:
        if when == "before the first byte":
            pool.all_do(think_s=60)
        elif shape.stream:
            pool.all_do(tokens=100_000, token_delay_s=0.02)
        else:
            pool.all_do(hang="mid-stream")
        found: list[float] = []
        while len(found) < TRIES and min(found, default=1) >= 0.1:
            found.append(await leave(pool, shape, when, leaves_by))
        assert min(found) < 0.1
        assert pool.counts == [len(found)]

    limits = {**LIMITS, "idle_s": 60}
    cases = list(product(SHAPES, ["before the first byte", "after the first byte"], ["close", "reset"]))
    async with fleet(tmp_path, kind, pools=len(cases), engines=1, limits=limits) as running:
        # One after the other: together they would measure the machine.
        for pool, case in zip(running.pools, cases, strict=True):
            await check(pool, *case)


@pytest.mark.parametrize("retry_ratio", [0, 0.2])
@pytest.mark.parametrize(
    ("kind", "fault"), [(STATIC, {"reset": "before-head"}), (LEASED, {"status": 503}), (STATIC, {"status": 429})]
)
async def test_engines_that_all_fail_are_not_stormed(
    kind: str, fault: dict[str, Any], retry_ratio: float, tmp_path: Path
) -> None:
    requests, clients = (400, 40) if retry_ratio else (100, 10)
    limits = {**LIMITS, "attempts": 2, "retry_ratio": retry_ratio}
    async with fleet(tmp_path, kind, engines=4, limits=limits, **fault) as running:
        pool, statuses = running.pools[0], []

        async def client() -> None:
            for _ in range(requests // clients):
                answer = await pool.post(running.client)
                statuses.append(answer.status_code)
                assert int(answer.headers["retry-after"]) >= 1

        started_s = time.monotonic()
        await asyncio.gather(*(client() for _ in range(clients)))
        took_s, sent = time.monotonic() - started_s, sum(pool.counts)
    assert set(statuses) <= {429, 502, 503}
    # A budget grants a few whatever the traffic, or a quiet gateway would never try twice; none where the share is 0.
    free = bool(retry_ratio) * FREE_RETRIES_PER_S * max(FREE_RETRIES_S, took_s)
    assert sent <= requests * (1 + retry_ratio) + free
