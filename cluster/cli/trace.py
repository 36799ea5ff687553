"""`longreach trace`: what became of one request, as a tree with times.

What must not live here: reading the file (cluster/local/traces.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.target import ConfigOption, JsonOption, print_json, run_dir

if TYPE_CHECKING:
    from rich.table import Table

    from cluster.local.traces import ReadSpan

BAR_CELLS = 24
MS = 1_000
LATEST = 20
TOLD = (
    ("longreach.pool", "{}"),
    ("longreach.replica", "{}"),
    ("longreach.ending", "{}"),
    ("http.response.status_code", "{}"),
    ("longreach.status", "{}"),
    ("error.type", "{}"),
    ("gen_ai.usage.input_tokens", "{:,} in"),
    ("gen_ai.usage.cache_read.input_tokens", "{:,} cached"),
    ("longreach.predicted_cached_tokens", "{:,} cached predicted"),
    ("gen_ai.usage.output_tokens", "{:,} out"),
    ("longreach.reason", "{}"),
)
"""Attributes of a span's line, in order, and how they read."""


def trace(
    request_id: Annotated[
        str | None, typer.Argument(help="Of a request (x-request-id), or of a trace; none: lists the latest.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="The traces; default: the cluster's telemetry.traces.file.")
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Show where a request's time went: at the gateway, at replicas, in their engines."""
    from rich.console import Console

    from cluster.core.errors import SetupError
    from cluster.local.traces import find_trace, latest

    path = file or _file_of(config)
    if request_id is None:
        spans = latest(path, LATEST)
        if json:
            print_json([asdict(span) for span in spans])
        else:
            Console().print(as_list(spans))
        return
    spans = find_trace(path, request_id)
    if not spans:
        raise SetupError(
            f"no trace of {request_id} is in {path}",
            "spans are there a second after the answer; sampling_ratio says which part is kept, `longreach trace` "
            "lists the latest",
        )
    if json:
        print_json([asdict(span) for span in spans])
    else:
        Console().print(as_tree(spans))


def as_tree(spans: Sequence[ReadSpan]) -> Table:
    """One line a span, under the one it belongs to, with its part of the whole time."""
    from rich.table import Table
    from rich.text import Text

    begin_ns, end_ns = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    table = Table(title=f"trace {spans[0].trace_id} · {_moment(begin_ns)}", title_justify="left", box=None)
    for title in ("span", "from ms", "took ms", "", ""):
        table.add_column(title, justify="right" if title.endswith("ms") else "left", no_wrap=title != "")
    for prefix, span in _ordered(spans):
        table.add_row(
            Text(prefix + span.name),
            f"{(span.start_ns - begin_ns) / 1e6:,.1f}",
            f"{span.seconds * MS:,.1f}",
            _bar(span, begin_ns, max(end_ns - begin_ns, 1)),
            Text(_told(span.attributes)),
            style="red" if span.is_error else None,
        )
    return table


def as_list(spans: Sequence[ReadSpan]) -> Table:
    """The latest requests, newest first."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for title in ("begun", "request", "span", "took ms", ""):
        # An id is to be copied: it is folded, never cut.
        is_whole = title in {"begun", "took ms"}
        table.add_column(title, justify="right" if title.endswith("ms") else "left", no_wrap=is_whole, overflow="fold")
    for span in spans:
        table.add_row(
            _moment(span.start_ns),
            Text(str(span.attributes.get("longreach.request_id", span.trace_id))),
            Text(span.name),
            f"{span.seconds * MS:,.1f}",
            Text(_told(span.attributes)),
            style="red" if span.is_error else None,
        )
    return table


def _file_of(config: Path | None) -> Path:
    from cluster.config import load_config
    from cluster.core.errors import SetupError

    folder = run_dir(config)
    known = folder.config if folder.config.exists() else config
    named = None if known is None else load_config(known).telemetry.traces.file
    if named is None:
        raise SetupError(
            "this cluster's configuration names no telemetry.traces.file",
            "set it, longreach down, longreach up; or name a file: --file",
        )
    return folder.root / named


def _ordered(spans: Sequence[ReadSpan]) -> list[tuple[str, ReadSpan]]:
    """Depth first, each with the lines that lead to it."""
    known = {span.span_id for span in spans}
    children: dict[str, list[ReadSpan]] = {}
    for span in spans:
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    found: list[tuple[str, ReadSpan]] = []

    def visit(parent_id: str, lead: str, *, is_top: bool) -> None:
        below = children.get(parent_id, [])
        for place, span in enumerate(below):
            is_last = place == len(below) - 1
            found.append(("" if is_top else lead + ("└─ " if is_last else "├─ "), span))
            visit(span.span_id, "" if is_top else lead + ("   " if is_last else "│  "), is_top=False)

    visit("", "", is_top=True)
    return found


def _bar(span: ReadSpan, begin_ns: int, whole_ns: int) -> str:
    before = (span.start_ns - begin_ns) * BAR_CELLS // whole_ns
    cells = max(1, round((span.end_ns - span.start_ns) * BAR_CELLS / whole_ns))
    before = min(before, BAR_CELLS - 1)
    return " " * before + "█" * min(cells, BAR_CELLS - before)


def _told(attributes: Mapping[str, Any]) -> str:
    return " · ".join(form.format(attributes[name]) for name, form in TOLD if attributes.get(name) not in (None, ""))


def _moment(ns: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
