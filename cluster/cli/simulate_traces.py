"""Which trace a simulation runs, and `longreach simulate traces`, which lists what there is.

What must not live here: reading, fitting and generating them (cluster/simulator/traces).
"""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.target import JsonOption, print_json

if TYPE_CHECKING:
    from cluster.simulator.trace import Trace
    from cluster.simulator.traces import TraceFit

DEFAULT_REQUESTS = 12_000
"""As many as Mooncake's trace has: an hour of it."""
SHOWN_PROBABILITIES = (0.5, 0.95, 0.99, 1.0)

TraceOption = Annotated[
    str | None,
    typer.Option(
        "--trace",
        help="A file (Mooncake's JSON Lines, Azure's CSV), or the name of a generator; default: mooncake-conversation.",
        metavar="FILE|NAME",
    ),
]
RequestsOption = Annotated[
    int | None,
    typer.Option("--requests", min=1, help=f"How many; default: all of a file, {DEFAULT_REQUESTS:,} generated ones."),
]
RateOption = Annotated[
    float | None, typer.Option("--rate", min=0.001, help="Requests a second in the mean; default: the trace's own.")
]
TailOption = Annotated[
    float,
    typer.Option(
        "--tail", min=0.0, max=1.0, help="Add prompts of 65,536 to 261,120 tokens: so many for each request (0.01)."
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of everything that is drawn; the same seed, the same result.")]


def chosen_trace(name: str | None, *, requests: int | None, rate: float | None, tail: float, seed: int) -> Trace:
    """The trace that the options mean.

    Raises:
        SetupError: there is no such file or generator.
        TraceError: the file has a mistake.
    """
    from cluster.core.errors import SetupError
    from cluster.simulator.traces import (
        DEFAULT_FIT,
        Tail,
        builtin_fits,
        faster,
        first,
        generate,
        rate_per_s,
        read_trace,
        with_tail,
    )

    fit = builtin_fits().get(name or DEFAULT_FIT)
    if fit is not None:
        trace = generate(fit, requests=requests or DEFAULT_REQUESTS, seed=seed, requests_per_s=rate)
    else:
        path = Path(name or "").expanduser()
        if not path.is_file():
            known = ", ".join(builtin_fits())
            raise SetupError(f"there is no trace {name}", f"name a file, or a generator: {known}")
        trace = read_trace(path)
        if requests is not None:
            trace = first(trace, requests)
        if rate is not None:
            trace = faster(trace, rate / rate_per_s(trace))
    return with_tail(trace, Tail(share=tail), seed=seed) if tail else trace


def traces(
    fit: Annotated[
        Path | None, typer.Option("--fit", help="Print the fit of this trace file as JSON instead.", metavar="FILE")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the traces that can be generated without a file, or fit one to a file."""
    from cluster.simulator.traces import builtin_fits, fit_trace, read_trace
    from cluster.simulator.traces.library import fit_as_json

    if fit is not None:
        try:
            fitted = fit_trace(read_trace(fit), source=fit.name)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--fit") from error
        typer.echo(json_format.dumps(fit_as_json(fitted)))
    elif json:
        print_json([fit_as_json(one) for one in builtin_fits().values()])
    else:
        _show(list(builtin_fits().values()))


def _show(fits: list[TraceFit]) -> None:
    from rich.console import Console
    from rich.table import Table

    from cluster.simulator.traces.fit import quantile

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("name", "requests/s", "prompt p50", "p95", "p99", "most", "prefixes", "fitted to"):
        table.add_column(column, justify="left" if column in {"name", "fitted to"} else "right")
    for one in fits:
        lengths = [f"{quantile(one.prompt_tokens, probability):,.0f}" for probability in SHOWN_PROBABILITIES]
        prefixes = "shared" if one.sharing is not None else "unknown"
        table.add_row(one.name, f"{one.requests_per_s:.2f}", *lengths, prefixes, one.source)
    Console().print(table)
