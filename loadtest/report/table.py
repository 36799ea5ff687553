"""A summary and a comparison as rows of text, for the terminal and for the page.

What must not live here: reckoning.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan
from typing import TYPE_CHECKING

from loadtest.report.compare import CONFIDENCE, Comparison, Difference
from loadtest.report.groups import Group
from loadtest.report.growth import SUFFIX, Growth
from loadtest.report.summary import Summary

if TYPE_CHECKING:
    from rich.table import Table

GROUP_HEADS = (
    "requests", "answered", "refused", "failed", "good", "hit",
    "TTFT p50 s", "p95", "p99", "ITL p50 ms", "p95", "p99", "TPOT p50 ms", "p95", "e2e p50 s", "p95", "p99",
)  # fmt: skip
ERROR_HEADS = ("error", "code", "status", "requests")
DIFFERENCE_HEADS = ("figure", "of", "first", "second", "difference", f"{CONFIDENCE:.0%} interval", "")
LAG_SHARE_MAX = 0.1
"""Of TTFT's median: a client that is later than this is part of what was measured."""
MIB = 1024 * 1024
NONE = "–"  # noqa: RUF001 - a dash


def group_row(group: Group) -> tuple[str, ...]:
    """Under a name and `GROUP_HEADS`."""
    ttft, itl, tpot, e2e = group.ttft_s, group.itl_s, group.tpot_s, group.e2e_s
    return (
        group.name,
        f"{group.requests:,}",
        f"{group.answered:,}",
        f"{group.refused:,}",
        f"{group.failed:,}",
        f"{group.good_ratio:.1%}",
        f"{group.hit_ratio:.1%}" if group.prompt_tokens else NONE,
        *map(number, (ttft.p50, ttft.p95, ttft.p99)),
        *(number(1000 * value) for value in (itl.p50, itl.p95, itl.p99, tpot.p50, tpot.p95)),
        *map(number, (e2e.p50, e2e.p95, e2e.p99)),
    )


def sections(found: Summary) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Rows of groups under what they are grouped by; the last row of the first section is all."""
    parts = [("label", found.labels), ("prompt tokens", found.bands), ("pool", found.pools), ("tenant", found.tenants)]
    # One group says the same as all.
    rows = [(name, [group_row(group) for group in groups]) for name, groups in parts if len(groups) > 1]
    return [("", [group_row(found.every)]), *rows]


def totals(found: Summary) -> list[tuple[str, str]]:
    """What is said once for a run."""
    every, knee = found.every, found.knee
    rows = [
        ("scenario", f"{found.scenario} over {found.api}, begun {found.begun}"),
        ("measured over", f"{found.span_s:,.1f} s, {found.warmup_requests:,} requests of the warm-up left out"),
        (
            "requests a second",
            f"{found.offered_per_s:,.2f} due, {found.answered_per_s:,.2f} answered, {found.goodput_per_s:,.2f} good",
        ),
        (
            "tokens a second",
            f"{found.prompt_tokens_per_s:,.0f} of prompts, {found.output_tokens_per_s:,.0f} of output",
        ),
        ("good means", str(found.level)),
        ("sent late by", f"p50 {seconds(found.lag_s.p50)}, p99 {seconds(found.lag_s.p99)}"),
    ]
    if every.prompt_tokens:
        cached = f"{every.cached_tokens:,} of {every.prompt_tokens:,}, {every.hit_ratio:.1%}"
        rows.append(("prompt tokens that were cached", cached))
    if knee is not None:
        reached = "" if knee.is_reached else " or more: the ramp ended before it"
        rows += [
            ("knee: within the service level up to", f"{knee.good_per_s:,.2f} requests a second"),
            ("knee: answers stop growing at", f"{knee.capacity_per_s:,.2f} requests a second{reached}"),
        ]
    return rows + [(f"memory of {one.name.removesuffix(SUFFIX)} grows by", _growth(one)) for one in found.growth]


def warnings(found: Summary) -> list[str]:
    """What makes the figures less than they seem."""
    told = [f"the run was stopped: {found.stopped}"] if found.stopped else []
    told += found.warnings
    lag_s, ttft_s = found.lag_s.p99, found.every.ttft_s.p50
    # The client's own warnings say so in other words.
    if not found.warnings and lag_s > LAG_SHARE_MAX * ttft_s:
        told.append(
            f"1% of the requests were sent {seconds(lag_s)} late or more, against a median TTFT of {seconds(ttft_s)}: "
            "the client is part of what was measured. Give it more processes, or lower the rate"
        )
    if found.every.requests and not found.every.prompt_tokens:
        told.append("the server told no token counts: lengths, hit rates and TPOT are missing")
    return told


def error_rows(found: Summary) -> list[tuple[str, ...]]:
    """Under `ERROR_HEADS`."""
    return [
        (one.error, one.code or NONE, str(one.status) if one.status else NONE, f"{one.requests:,}")
        for one in found.errors
    ]


def difference_rows(found: Comparison) -> list[tuple[str, ...]]:
    """Under `DIFFERENCE_HEADS`."""
    return [_difference(one) for one in found.differences]


def number(value: float) -> str:
    """With three digits."""
    return NONE if not isfinite(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004


def seconds(value: float) -> str:
    """With its unit, as small times need another."""
    if not isfinite(value):
        return NONE
    return f"{1000 * value:.3g} ms" if abs(value) < 1 else f"{value:,.3g} s"


def as_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> Table:
    """For the terminal; the first `texts` columns are text."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for place, head in enumerate(heads):
        table.add_column(head, justify="right" if place >= texts else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _growth(one: Growth) -> str:
    first, last, most = (size / MIB for size in (one.first_bytes, one.last_bytes, one.most_bytes))
    return f"{one.bytes_per_h / MIB:+,.1f} MiB an hour ({first:,.0f} to {last:,.0f} MiB, at most {most:,.0f})"


def _difference(one: Difference) -> tuple[str, ...]:
    change = one.difference / one.first if one.first else float("nan")
    relative = "" if not isfinite(change) else f" ({change:+.1%})"
    interval = NONE if isnan(one.low) else f"{one.low:+.3g} to {one.high:+.3g}"
    verdict = "" if isnan(one.low) else ("differs" if one.is_clear else "no difference seen")
    return (
        one.name,
        one.label or "all",
        number(one.first),
        number(one.second),
        f"{one.difference:+.3g}{relative}" if isfinite(one.difference) else NONE,
        interval,
        verdict,
    )
