"""A request's deadline: how a client names it, what is left of it, when it is hopeless.

What must not live here: clocks, sentences for clients, aborting engines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cluster.core.wire import HEADER_TIMEOUT

GIVEN_CHARACTERS_MAX = 40
"""How much of a bad value is shown again: enough to recognize it."""

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
"""Plain decimals only: Python's float() also takes nan, inf, 1_000 and digits of other scripts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadTimeout:
    """The client's timeout cannot be used."""

    given: str
    """What it sent, cut to `GIVEN_CHARACTERS_MAX`."""
    limit_s: float
    """The longest that may be asked for; the value must be over 0."""
    header: str = HEADER_TIMEOUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """The moment, on the caller's monotonic clock, after which nobody wants the answer."""

    at_s: float

    def left_s(self, now_s: float) -> float:
        """Seconds until then; 0 when it has passed."""
        return max(self.at_s - now_s, 0.0)

    def is_over(self, now_s: float) -> bool:
        """Whether it has passed."""
        return now_s >= self.at_s

    def is_hopeless(self, now_s: float, wait_s: float | None) -> bool:
        """Whether a wait of `wait_s` would take all the time that is left; an unknown wait (None) never does."""
        return self.is_over(now_s) or (wait_s is not None and wait_s >= self.left_s(now_s))


def read_deadline(given: str | None, *, arrived_s: float, limit_s: float) -> Deadline | BadTimeout:
    """The deadline of a request that arrived at `arrived_s`.

    Args:
        given: the value of `x-request-timeout-s`; None when the client sent none, which means `limit_s`.
        arrived_s: monotonic seconds.
        limit_s: the configured `limits.request_s`: the default, and the most that may be asked for. More is a mistake
            that is named instead of being cut: a client that is promised an hour must not lose its answer earlier.
    """
    if given is None:
        return Deadline(at_s=arrived_s + limit_s)
    seconds = given.strip(" \t")
    timeout_s = float(seconds) if _SECONDS.fullmatch(seconds) else 0.0
    if not 0 < timeout_s <= limit_s:
        return BadTimeout(given=given[:GIVEN_CHARACTERS_MAX], limit_s=limit_s)
    return Deadline(at_s=arrived_s + timeout_s)
