"""`longreach bench grpc`: what streams over gRPC cost, beside the least that a gRPC server in Python can do.

What must not live here: measuring (loadtest/bench).
"""

from __future__ import annotations

import json as json_format
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.bench_gateway import drawn, tokenizer_folder

PLAIN_WIDTH = 190
"""Characters; the table with its spreads fits."""


def grpc(
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Also write the rows to this file, as JSON; - prints them instead of the table.",
            metavar="FILE",
        ),
    ] = None,
    repeats: Annotated[int | None, typer.Option("--repeats", min=1, help="Rounds; default: 3.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Every step in a few seconds, to see that it works; figures mean nothing.")
    ] = False,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer", help="Folder with a tokenizer.json; default: the demo model's, else the tiny one's."
        ),
    ] = None,
) -> None:
    """Measure streams over gRPC: tokens a second and CPU a token, beside a bare gRPC server (about 4 minutes)."""
    from rich.console import Console

    from cluster.environment import read_environment
    from cluster.local.interrupt import InterruptedBySignal, raising
    from loadtest.bench.grpc_results import HEADLINES, noise
    from loadtest.bench.grpc_streams import QUICK, GrpcBench, Plan
    from loadtest.bench.machine import pick_cores
    from loadtest.bench.report import print_streams_report
    from loadtest.bench.results import as_json

    console, progress = Console(), Console(stderr=True)
    if not console.is_terminal:
        # A file or a pipe has no width of its own; the default would break every line in two.
        console = Console(width=PLAIN_WIDTH)
    environment = read_environment()
    plan = QUICK if quick else Plan()
    cache = environment.cache_home / "bench"
    cores = pick_cores()
    started_s = time.monotonic()
    try:
        with raising(), drawn(progress) as watcher:
            rows = GrpcBench(
                plan=plan if repeats is None else replace(plan, repeats=repeats),
                cores=cores,
                cache=cache,
                tokenizer=tokenizer or tokenizer_folder(environment, cache),
                variables=environment.variables,
                watcher=watcher,
            ).run()
    except InterruptedBySignal as signal:
        raise typer.Exit(signal.exit_status) from None
    text = json_format.dumps([as_json(row, HEADLINES) for row in rows], indent=2)
    if str(json) == "-":
        typer.echo(text)
        return
    if json is not None:
        json.write_text(f"{text}\n", encoding="utf-8")
    print_streams_report(console, rows, noise(rows))
    where = (
        "This machine has one core: client, engines and server shared it, so rates and latencies say little."
        if cores.is_shared
        else f"Server on core {cores.router}; client, engines and Valkey on core {cores.load}."
    )
    console.print(f"{where} Took {time.monotonic() - started_s:.0f} s.", style="dim", highlight=False)
