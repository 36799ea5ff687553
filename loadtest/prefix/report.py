"""Draws a report as tables.

What must not live here: figures that are not in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

TTFT_LINES = (
    ("cold", "ttft_cold_s", "cached_cold_tokens"),
    ("same replica", "ttft_local_s", "cached_local_tokens"),
    ("from Redis, other replica", "ttft_redis_s", "cached_redis_tokens"),
)


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """Print everything that was measured."""
    ttft: Mapping[str, Any] | None = report["ttft"]
    if ttft is not None:
        console.print(ttft_table(ttft))
        console.print(
            f"Loaded at {_figure(ttft['load_mb_s'], 0)} MB/s, stored at {_figure(ttft['store_mb_s'], 0)} MB/s. "
            f"On misses the tier took {_percent(ttft['miss_overhead_ratio'])} of TTFT "
            f"(of it, the scheduler's thread {_percent(ttft['miss_scheduler_ratio'])}).",
            highlight=False,
            soft_wrap=True,
        )
        for line in ttft["invalid"]:
            console.print(f"not valid: {line}", style="yellow", highlight=False, soft_wrap=True)
        console.print()
    if report["routing"]:
        console.print(routing_table(report["routing"]))
        for line in notes(report):
            console.print(line, style="dim", highlight=False, soft_wrap=True)
        console.print()
    if report["targets"]:
        console.print(target_table(report["targets"]))


def ttft_table(ttft: Mapping[str, Any]) -> Table:
    """The first part: a prompt's way to its first token in three ways."""
    table = _table("prompt", "tokens", "cached", "TTFT s", "smallest..largest", "times faster", "valid rounds")
    cold_s = ttft["ttft_cold_s"]
    for name, key, cached in TTFT_LINES:
        seconds, spread = ttft[key], ttft["spread"].get(key)
        table.add_row(
            name,
            f"{ttft['prompt_tokens']:,.0f}",
            f"{ttft[cached]:,.0f}",
            _figure(seconds, 3),
            "-" if spread is None else f"{spread[0]:.3f}..{spread[1]:.3f}",
            _figure(cold_s / seconds if cold_s and seconds else None, 1),
            f"{ttft['valid_' + key.split('_')[1]]} of {ttft['rounds']}",
        )
    return table


def routing_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The second part: a policy a line."""
    table = _table(
        "policy",
        "tier",
        "KV cache",
        "TTFT p50 s",
        "p99",
        "prefilled",
        "to ideal",
        "to round-robin",
        "from Redis",
        "by replica",
    )
    for row in rows:
        table.add_row(
            row["policy"],
            row["tier"],
            f"{row['cache_tokens']:,}",
            _figure(row["ttft_p50_s"], 2),
            _figure(row["ttft_p99_s"], 2),
            f"{row['prefilled_tokens']:,}",
            _figure(row["prefilled_ratio_to_ideal"], 2),
            _figure(row["prefilled_ratio_to_round_robin"], 2),
            f"{row['loaded_tokens']:,}" if row["tier"] == "on" else "-",
            " + ".join(map(str, row["requests_by_replica"])),
        )
    return table


def notes(report: Mapping[str, Any]) -> list[str]:
    """What has to be known to read the second table."""
    setup, rows = report["setup"], report["routing"]
    distinct = max(row["distinct_tokens"] for row in rows)
    workload = (
        f"{rows[0]['requests']} turns a policy: {setup['tenants']} tenants, {setup['conversations']} conversations "
        f"each, {setup['turns']} turns each; {setup['concurrency']} at a time. All of it is {distinct:,} tokens in "
        f"whole blocks; KV cache: of each of the {setup['replicas']} replicas."
    )
    found = [workload, "Ideal: every block computed once, by whoever needs it first."]
    if any(row["tier"] == "on" for row in rows):
        found.append("With the tier, a replica also finds what its host's memory still holds on the way to Redis.")
    wrong = sum(row["miscounted_prompts"] for row in rows)
    if wrong:
        found.append(f"The engine counts {wrong} prompts otherwise than this bench: do not trust the ideal.")
    return found


def target_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Targets and whether they were met."""
    table = _table("target", "wanted", "measured", "")
    verdicts = {True: "met", False: "missed", None: "not measured"}
    for row in rows:
        limit = f"at most {row['most']:g}" if "most" in row else f"at least {row['least']:g}"
        table.add_row(row["name"], limit, _figure(row["figure"], 3), verdicts[row["met"]])
    return table


def _figure(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"


def _percent(value: float | None) -> str:
    return "an unknown share" if value is None else f"{value:.3%}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table
