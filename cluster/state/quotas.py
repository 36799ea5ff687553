"""Counts tenants' requests and tokens for all gateways together, in the state Redis.

Checks that arrive within one turn of the event loop go to Redis in one script call, and one call is under way at a
time, so the load on Redis does not grow with the load on the gateway. When Redis is away or slow, each gateway goes on
with its share of every limit, from the backlog last heard of; a client never sees an error because of it.
Keys: `longreach:{CLUSTER}:quota:TENANT` holds both theoretical arrival times, `…:quota-gateways` who shares.
What must not live here: the rule (cluster/core/quota.py), the script (quota_script.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from cluster.core import quota
from cluster.core.quota import BURST_US, Granted, Meter, Refused
from cluster.core.tenant import Tenant, TenantName
from cluster.state.quota_script import EXCHANGE, FIELDS_PER_ANSWER, GREET

logger = logging.getLogger(__name__)

WAIT_MAX_S = 0.05
"""Longest a request waits for its quota. Redis answers in well under a millisecond; a healthy one never takes this."""
GRACE_S = 0.005
"""How much of a call's time is measured anew once the rest has passed. Something else may have held the event loop all
the while: the answer then lies unread in the socket, or the question was not even sent."""
FLIGHT_MAX_S = WAIT_MAX_S / 2 - GRACE_S
"""The rest of it. A check may just miss one call and go with the next, so it waits for two at most."""
PENDING_MAX = 256
"""Checks of one call: half a millisecond of Redis's time, and a few of this loop's. That many wait only where the loop
was held up; further ones are answered by this gateway's share."""
SETTLE_DELAY_S = 0.1
"""Settlements wait this long for a check to travel with. Tokens given back are given back soon enough."""
AWAY_RETRY_S = 1.0
"""Between two looks whether Redis is back. Requests do not look: none of them waits for a server that is away."""
GREET_S = 5.0
"""Between two greetings of a gateway; three missed ones mean it is gone."""
GATEWAY_TTL_S = 15
GREET_MAX_S = 1.0
"""One greeting, a new connection included."""
METERS_MAX = 10_000
"""Tenants whose backlog is remembered. Limits come from the configuration, so there are never nearly as many."""


@dataclass(slots=True, kw_only=True)
class _Check:
    tenant: Tenant
    tokens: int
    answer: asyncio.Future[Granted | Refused]


class Quotas:
    """Takes and settles for every tenant; one in each gateway process."""

    def __init__(
        self, redis: Redis | None, cluster: str, *, gateway: str, clock: Callable[[], float], sharers: int = 1
    ) -> None:
        """Nothing is sent before the first check or greeting.

        Args:
            redis: the state store; None: this gateway counts alone.
            cluster: its name.
            gateway: what this process is called among all gateways; no two may share a name.
            clock: monotonic seconds, for the local share.
            sharers: processes that share the limits, as long as Redis has not told how many there are.
        """
        self._redis = redis
        self._prefix = f"longreach:{{{cluster}}}:"
        self._gateway = gateway
        self._clock = clock
        self._sharers = max(1, sharers)
        self._exchange = None if redis is None else redis.register_script(EXCHANGE)
        self._greet = None if redis is None else redis.register_script(GREET)
        self._pending: list[_Check] = []
        self._owed: dict[TenantName, int] = {}
        self._meters: dict[TenantName, Meter] = {}
        self._flight: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._away_since_s: float | None = None

    @staticmethod
    def needs_check(tenant: Tenant) -> bool:
        """Whether `take` has anything to count; without limits it need not be called."""
        return quota.is_limited(tenant)

    @property
    def is_shared(self) -> bool:
        """Whether all gateways count together now."""
        return self._redis is not None and self._away_since_s is None

    @property
    def sharers(self) -> int:
        """Gateway processes among which the limits are divided when they cannot count together."""
        return self._sharers

    async def take(self, tenant: Tenant, tokens: int) -> Granted | Refused:
        """Charge one request and `tokens` to `tenant`, or refuse; within `WAIT_MAX_S`, and never with an error.

        Args:
            tenant: who asks.
            tokens: the expected prompt plus the requested output.
        """
        if not quota.is_limited(tenant):
            return Granted(tokens=tokens)
        if not self.is_shared or len(self._pending) >= PENDING_MAX:
            return self._take_share(tenant, tokens)
        check = _Check(tenant=tenant, tokens=tokens, answer=asyncio.get_running_loop().create_future())
        self._pending.append(check)
        self._fly()
        try:
            return await check.answer
        except asyncio.CancelledError:
            # Answered in the very turn in which the client left: nobody else will settle it.
            if check.answer.done() and not check.answer.cancelled():
                self._give_back(check, check.answer.result())
            raise

    def settle(self, tenant: Tenant, granted: Granted, actual_tokens: int) -> None:
        """Correct a charge once the exact figure is known, in the background; 0 gives everything back."""
        sharers = self._sharers if granted.is_local else 1
        correction_us = quota.correction_us(tenant, granted.tokens, actual_tokens, sharers=sharers)
        if correction_us == 0:
            return
        if not self.is_shared:
            meter = self._meters.get(tenant.name, Meter())
            self._remember(tenant.name, quota.settle(meter, correction_us, self._now_us()))
        elif not granted.is_local:
            # What was granted without Redis was never charged there.
            self._owed[tenant.name] = self._owed.get(tenant.name, 0) + correction_us
            if self._flight is None and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(SETTLE_DELAY_S, self._fly)

    async def follow(self) -> None:
        """Greet again and again until cancelled; this also notices that Redis is back. Returns where there is none."""
        while self._redis is not None:
            await self.greet()
            await asyncio.sleep(AWAY_RETRY_S if self._away_since_s is not None else GREET_S)

    async def greet(self) -> None:
        """Tell the other gateways of this one, learn how many there are, and whether Redis can be used."""
        if self._greet is None:
            return
        keys = [self._prefix + "quota-gateways"]
        args: list[str | int] = [self._gateway, GATEWAY_TTL_S]
        try:
            self._sharers = max(1, int(await _within(GREET_MAX_S, self._greet(keys=keys, args=args))))
            if self._away_since_s is not None:
                # The greeting paid for the connection. The next call shows whether Redis is quick enough for requests.
                await _within(FLIGHT_MAX_S, self._greet(keys=keys, args=args))
        except (RedisError, OSError, ValueError, TypeError) as error:
            self._leave(error)
        else:
            self._return()

    async def close(self) -> None:
        """Send what is still owed, and leave the gateways' set; the connection belongs to the caller."""
        if self._timer is not None:
            self._fly()
        if self._flight is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._flight
        if self._redis is not None and self.is_shared:
            with contextlib.suppress(RedisError, OSError):
                await _within(GREET_MAX_S, self._redis.zrem(self._prefix + "quota-gateways", self._gateway))

    def _fly(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flight is None:
            # Its first step runs in the loop's next turn: whatever this turn still brings goes along.
            self._flight = asyncio.get_running_loop().create_task(self._fly_until_empty())

    async def _fly_until_empty(self) -> None:
        checks: list[_Check] = []
        try:
            while self._pending or self._owed:
                checks, self._pending = self._pending, []
                owed, self._owed = self._owed, {}
                self._land(checks, owed, await self._call(checks, owed))
        except Exception as error:  # noqa: BLE001 - a task's root: whatever failed, nobody may be left waiting
            self._leave(error)
        finally:
            self._flight = None
            left, self._pending = [*checks, *self._pending], []
            for check in left:
                if not check.answer.done():
                    check.answer.set_result(self._take_share(check.tenant, check.tokens))

    async def _call(self, checks: list[_Check], owed: dict[TenantName, int]) -> list[int]:
        assert self._exchange is not None
        keys: list[str] = []
        args: list[str | int] = [BURST_US]
        for name, correction_us in owed.items():
            keys.append(f"{self._prefix}quota:{name}")
            args += ("settle", 0, correction_us)
        for check in checks:
            cost = quota.cost_of(check.tenant, check.tokens)
            keys.append(f"{self._prefix}quota:{check.tenant.name}")
            args += ("take", cost.requests_us, cost.tokens_us)
        answers: list[int] = await _within(FLIGHT_MAX_S, self._exchange(keys=keys, args=args))
        if len(answers) != len(keys) * FIELDS_PER_ANSWER:
            raise ValueError(f"the quota script gave {len(answers)} figures for {len(keys)} steps")
        return answers

    def _land(self, checks: list[_Check], owed: dict[TenantName, int], answers: list[int]) -> None:
        names = [*owed, *(check.tenant.name for check in checks)]
        rows = [answers[at : at + FIELDS_PER_ANSWER] for at in range(0, len(answers), FIELDS_PER_ANSWER)]
        now_us = self._now_us()
        for name, row in zip(names, rows, strict=True):
            self._remember(name, Meter(requests_us=now_us + row[2], tokens_us=now_us + row[3]))
        for check, row in zip(checks, rows[len(owed) :], strict=True):
            answer = quota.refused(row[0], row[1]) if row[0] or row[1] else Granted(tokens=check.tokens)
            if check.answer.done():
                self._give_back(check, answer)
            else:
                check.answer.set_result(answer)

    def _give_back(self, check: _Check, answer: Granted | Refused) -> None:
        if isinstance(answer, Granted):
            self.settle(check.tenant, answer, 0)

    def _take_share(self, tenant: Tenant, tokens: int) -> Granted | Refused:
        cost = quota.cost_of(tenant, tokens, sharers=self._sharers)
        after = quota.take(self._meters.get(tenant.name, Meter()), cost, self._now_us())
        if isinstance(after, Refused):
            return after
        self._remember(tenant.name, after)
        return Granted(tokens=tokens, is_local=True)

    def _remember(self, name: TenantName, meter: Meter) -> None:
        if name not in self._meters and len(self._meters) >= METERS_MAX:
            del self._meters[next(iter(self._meters))]
        self._meters[name] = meter

    def _now_us(self) -> int:
        return int(self._clock() * 1_000_000)

    def _leave(self, error: Exception) -> None:
        self._owed.clear()
        if self._away_since_s is None:
            self._away_since_s = self._clock()
            logger.warning(
                "state store away or slow: every gateway goes on with its share of the tenants' limits",
                extra={"error": f"{type(error).__name__}: {error}", "sharers": self._sharers},
            )

    def _return(self) -> None:
        if self._away_since_s is not None:
            away_s = self._clock() - self._away_since_s
            self._away_since_s = None
            logger.info("state store back: gateways count together again", extra={"away_s": round(away_s, 1)})


async def _within(limit_s: float, call: Awaitable[Any]) -> Any:
    """The call's result.

    Raises:
        TimeoutError: it took longer than `limit_s` and `GRACE_S`; it is cancelled then.
    """
    task = asyncio.ensure_future(call)
    try:
        for timeout_s in (limit_s, GRACE_S):
            await asyncio.wait({task}, timeout=timeout_s)
            if task.done():
                return task.result()
    finally:
        if not task.done():
            task.add_done_callback(_heard)
            task.cancel()
    raise TimeoutError(f"no answer within {limit_s * 1000:.0f} ms")


def _heard(task: asyncio.Future[Any]) -> None:
    """Take a cancelled call's exception, so that asyncio does not report it as forgotten."""
    if not task.cancelled():
        task.exception()
