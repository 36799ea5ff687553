"""How long requests wait for their turn, from arrival rate, service time and number of servers.

Waiting in M/G/m has no closed form. Used here: Erlang's C for the share that waits (exact for M/M/m), Allen and
Cunneen's factor for other variances (A. O. Allen, "Probability, Statistics, and Queueing Theory", 1990; for one server
and Poisson arrivals it is Pollaczek and Khinchine's formula, which is exact), and an exponential tail for those that
wait (J. F. C. Kingman 1961, exact as the load nears 1). Too light where service times have a heavy tail of their own.
What must not live here: what a service time is (load.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Of requests that share so many servers, first come, first served."""

    share: float
    """Of requests, those that wait at all, in [0, 1]."""
    mean_s: float
    """Of those that wait; infinite where more comes than is served."""

    @property
    def mean_of_all_s(self) -> float:
        """Of all requests, those that do not wait included."""
        return self.share * self.mean_s

    def over(self, wait_s: float) -> float:
        """The share of requests that wait longer."""
        if wait_s < 0:
            return 1.0
        if self.mean_s == inf:
            return 1.0
        return self.share * (exp(-wait_s / self.mean_s) if self.mean_s > 0 else 0.0)


def waiting(
    *, arrivals_per_s: float, service_s: float, service_cv2: float, servers: int, arrival_cv2: float = 1.0
) -> Waiting:
    """Waiting for one of `servers`.

    Args:
        arrivals_per_s: at all of them together.
        service_s: the mean time one is busy with a request.
        service_cv2: variance of that over the mean squared.
        servers: at least 1.
        arrival_cv2: the same of the time between two arrivals; 1 is Poisson.
    """
    load = arrivals_per_s * service_s
    if load >= servers:
        return Waiting(share=1.0, mean_s=inf)
    factor = (arrival_cv2 + service_cv2) / 2
    return Waiting(share=erlang_c(servers, load), mean_s=factor * service_s / (servers - load))


def erlang_c(servers: int, load: float) -> float:
    """The probability that all servers are busy, in [0, 1], by Erlang's B and its recursion (A. K. Erlang 1917).

    Args:
        servers: at least 1.
        load: arrivals times service time, below `servers`.
    """
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return servers * blocked / (servers - load * (1 - blocked))
