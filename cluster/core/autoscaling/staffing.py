"""How many servers keep waiting, or the number of busy ones, within a limit 95 times in 100.

Queueing theory's part, free of anything about engines. What must not live here: what a server is, how long a given
number lets wait (cluster/core/capacity/waiting.py).
"""

from __future__ import annotations

import math

LATE_RATIO = 0.05
"""Levels are promised to 95%."""
SPREAD_SIGMAS = 1.645
"""95% of a normal variable lie below its mean and so many standard deviations."""
COUNTED_MAX = 50.0
"""From this mean on, a Poisson variable is taken for a normal one; below, the difference would be a whole replica."""
VARIABILITY = 1.4
"""(ca² + cs²) / 2 in Allen and Cunneen's formula: squared coefficients of variation of the times between arrivals and
of service times. Arrivals are taken for Poisson (1); prompt lengths measured 1.7 in Mooncake's conversations, 0.9 in
Azure's code and chats."""
OFFERED_MAX = 2_000.0
"""Beyond, Erlang's recursion is not worth its time; twice the root more than the load is then more than it would say
at any wait."""


def servers_for_wait(offered: float, *, service_s: float, wait_s: float) -> float:
    """The servers of one queue where at most `LATE_RATIO` of arrivals wait longer than `wait_s`.

    The chance to wait at all is Erlang's C for M/M/n; given that, waiting is exponential with rate
    (n - offered) / (VARIABILITY x service_s) (Allen and Cunneen; Kingman's heavy traffic). Between two whole numbers it
    is interpolated, so that it rises with the load; its ceiling is the answer.

    Args:
        offered: busy servers on average: arrivals a second times service time.
        service_s: one server's time for an arrival.
        wait_s: the limit, above 0.
    """
    if offered <= 0:
        return 0.0
    if offered >= OFFERED_MAX:
        return offered + 2 * math.sqrt(offered)
    limit = math.log(LATE_RATIO)
    blocked, servers, before, log_before = 1.0, 0, offered, 0.0
    while True:
        servers += 1
        blocked = offered * blocked / (servers + offered * blocked)  # Erlang's B, by its recursion
        if servers <= offered:
            continue
        waits = blocked / (1 - offered / servers * (1 - blocked))
        log_late = math.log(max(waits, 1e-300)) - (servers - offered) * wait_s / (VARIABILITY * max(service_s, 1e-9))
        if log_late <= limit:
            return before + (servers - before) * (log_before - limit) / (log_before - log_late)
        before, log_before = float(servers), log_late


def places_for(busy: float) -> float:
    """So many places are enough in 95 of 100 moments, where `busy` are in use on average.

    Users that come independently make the number in use a Poisson variable (M/G/∞); large ones give square-root
    staffing.
    """
    if busy <= 0:
        return 0.0
    if busy >= COUNTED_MAX:
        return busy + SPREAD_SIGMAS * math.sqrt(busy) + 1
    places, chance = 0, math.exp(-busy)
    within = chance
    while within < 1 - LATE_RATIO:
        places += 1
        chance *= busy / places
        within += chance
    # A whole number also where next to nobody comes: places are not shared out in parts.
    return float(max(places, 1))
