"""Which of the tier's counters a look at its statistics tells."""

from __future__ import annotations

from cluster.engine.tier import stats
from cluster.engine.tier.jobs import Counts


def told(counts: Counts, *, hits: int = 0, is_first: bool = False) -> dict[tuple[str, ...], float]:
    rows = stats.observations(counts, hits=hits, misses=0, scheduler_s=0.5, is_first=is_first)
    return {(name, *labels): amount for name, labels, amount in rows}


def test_the_first_look_tells_every_counter_so_that_each_begins_at_zero() -> None:
    first = told(Counts(), is_first=True)
    assert {name for name, *_ in first} == set(stats.COUNTERS)
    assert {value for key, value in first.items() if key != (stats.SCHEDULER_SECONDS,)} == {0}
    assert {len(key) - 1 for key in first if key[0] == stats.BAD_VALUES} == {len(stats.COUNTERS[stats.BAD_VALUES][1])}


def test_later_ones_tell_what_moved_and_nothing_where_nothing_did() -> None:
    assert told(Counts()) == {}
    assert told(Counts(), hits=2) == {(stats.LOOKUPS, "hit"): 2, (stats.SCHEDULER_SECONDS,): 0.5}
