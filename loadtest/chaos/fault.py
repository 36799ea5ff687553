"""One thing that can go wrong, and what is promised then.

What must not live here: the faults themselves (faults/).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx
import psutil
from redis.exceptions import RedisError

from cluster.core.errors import LongreachError
from loadtest.chaos.target import Target

UNMADE = (LongreachError, OSError, RedisError, httpx.HTTPError, psutil.Error)
"""What a fault raises that comes to no end: a process, server or command that it needs was away just then. It counts
against that fault, and the figures of the others are told all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a fault has to tell beside what became of the steady load."""

    notes: Sequence[str]
    missed: Sequence[str] = ()
    """Targets that were not met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault that the suite can make."""

    name: str
    does: str
    """In a line, for people who choose."""
    run: Callable[[Target], Awaitable[Told | None]]
    """Breaks something and returns once everything is well again, by itself or by what a supervisor does;
    what else there is to tell."""
    tries: int = 1
    """How often clients ask: more than once where connections of theirs die with what is killed."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the steady load's requests."""
    prepare: Callable[[Target], Awaitable[None]] | None = None
    """Before the load begins."""
    restore: Callable[[Target], Awaitable[None]] | None = None
    """After the last answer, whatever happened."""
    moves: str = ""
    """A counter of the gateway that goes up where the fault hit somebody; empty: it may hit nobody."""
    is_short: bool = True
    """Whether it is over within a minute or two, and the soak may draw it."""
    lacks: Callable[[], str] = lambda: ""
    """Why it cannot be made on this machine; empty: it can."""
