"""Everything known of a cluster's usage at one moment: the totals, and what is still in journals on this machine.

What must not live here: printing (cluster/cli/usage.py), adding to the totals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from cluster.core.usage import UsageCounts, UsageKey, folded
from cluster.state.leases import connect
from cluster.state.usage import StoredUsage, UsageStore
from cluster.state.usage_files import DayTotals, FileTotals, SegmentName, read_segment, segments


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """What was found."""

    sums: dict[UsageKey, UsageCounts]
    pending_requests: int = 0
    """Of these, requests that are not in the totals yet."""
    store_error: str = ""
    """Why the state store's totals are missing here; empty where they are not."""


async def read_usage(*, folder: Path | None, state_url: str | None, cluster: str, days: Sequence[str]) -> UsageReport:
    """The usage of these days.

    A count is either in the totals of Redis, in those of a file, or in a journal. Journals are read first and totals
    with their marks after them, so what moves meanwhile is neither missed nor counted twice.

    Args:
        folder: the gateway's usage folder on this machine; None: none.
        state_url: the state store; None: none.
        cluster: the cluster's name.
        days: UTC dates.

    Raises:
        OSError: a file on this machine cannot be read.
        ValueError: a totals file is damaged.
    """
    journals = {} if folder is None else _journals(folder)
    in_files = {} if folder is None else FileTotals(folder).read(days)
    stored, store_error = StoredUsage(sums={}, marks={}), ""
    if state_url is not None:
        redis = connect(state_url)
        try:
            store = UsageStore(redis, cluster)
            stored = await store.read(days, writers={name.writer for name in journals})
        except (RedisError, OSError) as error:
            store_error = str(error) or type(error).__name__
        finally:
            await redis.aclose()
    pending = [
        (key, counts)
        for name, sums in journals.items()
        for key, counts in sums.items()
        if key.day in days and name.sequence > _mark(name.writer, key.day, stored, in_files)
    ]
    records = [*stored.sums.items(), *pending]
    for day_totals in in_files.values():
        records += day_totals.sums.items()
    return UsageReport(
        sums=folded(records, keys_max=len(records) + 1),
        pending_requests=sum(counts.requests for _key, counts in pending),
        store_error=store_error,
    )


def _journals(folder: Path) -> dict[SegmentName, dict[UsageKey, UsageCounts]]:
    found = {}
    for name in segments(folder):
        try:
            found[name] = read_segment(name.path(folder)).sums
        except FileNotFoundError:
            continue  # it has just moved into the totals, which are read next
    return found


def _mark(writer: str, day: str, stored: StoredUsage, in_files: Mapping[str, DayTotals]) -> int:
    in_file = in_files[day].marks.get(writer, -1) if day in in_files else -1
    return max(in_file, stored.marks.get(writer, -1))
