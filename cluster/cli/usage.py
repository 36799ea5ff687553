"""`longreach usage`: tokens and requests by tenant, key, model or day.

What must not live here: where usage is kept (cluster/state), adding it up (cluster/core/usage.py).
"""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.target import ConfigOption, JsonOption, print_json, run_dir
from cluster.core.usage import COUNT_FIELDS, UsageCounts, UsageGroup, days_since, grouped, total

if TYPE_CHECKING:
    from rich.table import Table

    from cluster.state.usage_report import UsageReport

DEFAULT_SINCE = "7d"


def usage(
    since: Annotated[
        str, typer.Option("--since", help="Days back (7d, today included) or the first day (2026-11-22), UTC.")
    ] = DEFAULT_SINCE,
    by: Annotated[UsageGroup, typer.Option("--by", help="What the rows are.")] = UsageGroup.TENANT,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead.")] = False,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show how many tokens went in, came from the cache, and went out."""
    from datetime import UTC, datetime

    from rich.console import Console

    if as_csv and json:
        raise typer.BadParameter("--json and --csv exclude each other")
    try:
        days = days_since(since, today=datetime.now(UTC).date())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from error
    report = _read(config, days)
    rows = grouped(report.sums, by)
    if json:
        print_json(as_json(report, rows, by, days))
    elif as_csv:
        typer.echo(as_text(rows, by), nl=False)
    elif rows:
        Console().print(as_table(rows, by, total(report.sums)))
    else:
        typer.echo(f"No usage since {days[0]} (UTC)")
    if report.store_error:
        typer.echo(f"longreach: the totals in Redis are missing here: {report.store_error}", err=True)
        raise typer.Exit(1)


def as_json(
    report: UsageReport, rows: dict[tuple[str, ...], UsageCounts], by: UsageGroup, days: tuple[str, ...]
) -> dict[str, object]:
    """The report for programs."""
    return {
        "since": days[0],
        "until": days[-1],
        "by": by.value,
        "rows": [dict(zip(by.columns, row, strict=True)) | asdict(counts) for row, counts in rows.items()],
        "total": asdict(total(report.sums)),
        "pending_requests": report.pending_requests,
        "error": report.store_error,
    }


def as_text(rows: dict[tuple[str, ...], UsageCounts], by: UsageGroup) -> str:
    """The report as CSV with a head line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*by.columns, *COUNT_FIELDS])
    for row, counts in rows.items():
        writer.writerow([*row, *asdict(counts).values()])
    return out.getvalue()


def as_table(rows: dict[tuple[str, ...], UsageCounts], by: UsageGroup, everything: UsageCounts) -> Table:
    """The report for people."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in by.columns:
        table.add_column(column)
    for column in ("requests", "prompt", "cached", "output", "unknown", "broken"):
        table.add_column(column, justify="right")
    for row, counts in rows.items():
        table.add_row(*map(escape, row), *_numbers(counts))
    if len(rows) > 1:
        table.add_row("total", *[""] * (len(by.columns) - 1), *_numbers(everything), style="bold")
    return table


def _numbers(counts: UsageCounts) -> list[str]:
    return [f"{value:,}" for value in asdict(counts).values()]


def _read(config: Path | None, days: tuple[str, ...]) -> UsageReport:
    """The usage of the cluster that `config` means, whether it runs or not.

    Raises:
        ConfigError: the configuration has mistakes.
        SetupError: a file on this machine cannot be read.
    """
    import asyncio

    from cluster.config import RedisSection, load_config
    from cluster.core.errors import SetupError
    from cluster.deployment import load_deployment
    from cluster.environment import read_environment
    from cluster.state.login import state_address
    from cluster.state.usage_report import read_usage

    where = run_dir(config)
    in_force = where.config if where.config.exists() else config
    settings = load_config(in_force) if in_force is not None else None
    own = load_deployment(where.deployment).state_url if where.deployment.exists() else None
    redis = settings.redis if settings is not None else RedisSection()
    state_url = state_address(redis, read_environment().secret, own=own)
    cluster = settings.cluster.name if settings is not None else where.root.name
    try:
        return asyncio.run(read_usage(folder=where.root / "usage", state_url=state_url, cluster=cluster, days=days))
    except (OSError, ValueError) as error:
        raise SetupError(f"usage cannot be read: {error}", f"look into {where.root / 'usage'}") from error
