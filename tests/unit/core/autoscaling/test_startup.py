"""From the order of a replica to its lease."""

from __future__ import annotations

from cluster.core.autoscaling.startup import StartupClock
from cluster.core.lease import ReplicaId


def ids(*names: str) -> list[ReplicaId]:
    return [ReplicaId(name) for name in names]


def test_nothing_is_known_before_the_first_start() -> None:
    clock = StartupClock()
    clock.seen(ids("a"), 0.0)
    assert (clock.startup_s, clock.oldest_order_s) == (None, None)


def test_an_order_is_answered_by_the_next_new_replica() -> None:
    clock = StartupClock()
    clock.seen(ids("a"), 0.0)
    clock.ordered(1, 3, 10.0)
    clock.seen(ids("a"), 20.0)
    assert clock.oldest_order_s == 10.0
    clock.seen(ids("a", "b"), 40.0)
    assert (clock.startup_s, clock.oldest_order_s) == (30.0, 10.0)
    clock.seen(ids("a", "b", "c"), 60.0)
    assert (clock.startup_s, clock.oldest_order_s) == (40.0, None)


def test_a_replacement_was_not_ordered() -> None:
    clock = StartupClock(5.0)
    clock.seen(ids("a"), 0.0)
    clock.seen(ids("b"), 100.0)
    assert clock.startup_s == 5.0


def test_an_order_that_is_taken_back_counts_no_more() -> None:
    clock = StartupClock()
    clock.seen([], 0.0)
    clock.ordered(0, 2, 10.0)
    clock.ordered(2, 1, 20.0)
    clock.settle(1)
    clock.seen(ids("a"), 30.0)
    assert (clock.startup_s, clock.oldest_order_s) == (20.0, None)


def test_what_is_not_missing_is_not_on_its_way() -> None:
    clock = StartupClock()
    clock.seen(ids("a"), 0.0)
    clock.ordered(1, 2, 10.0)
    clock.settle(0)
    assert clock.oldest_order_s is None


def test_a_lease_that_lapses_and_returns_is_no_new_replica() -> None:
    clock = StartupClock()
    clock.seen(ids("a"), 0.0)
    clock.ordered(1, 2, 1.0)
    clock.seen([], 2.0)
    clock.seen(ids("a"), 3.0)
    assert clock.startup_s is None


def test_the_median_of_the_last_starts() -> None:
    clock = StartupClock()
    clock.seen([], 0.0)
    for number, took_s in enumerate((30.0, 400.0, 31.0, 32.0, 33.0, 34.0)):
        clock.ordered(0, 1, 1000.0 * number)
        clock.seen(ids(str(number)), 1000.0 * number + took_s)
    assert clock.startup_s == 33.0
