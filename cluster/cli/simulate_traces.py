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

DEFAULT_REQUESTS = 10_000

TraceOption = Annotated[
    Path | None, typer.Option("--trace", "-t", help="Trace in Mooncake's or Azure's format.", metavar="FILE")
]
FitOption = Annotated[
    str | None,
    typer.Option(
        "--fit",
        help="Instead of a file, draw requests from these distributions; `longreach simulate traces` lists them.",
        metavar="NAME",
    ),
]
RequestsOption = Annotated[
    int | None, typer.Option("--requests", "-n", min=1, help="That many: the file's first, or 10000 drawn.")
]
RateOption = Annotated[
    float | None, typer.Option("--rate", help="Requests a second in the mean, instead of the trace's own.")
]
OverlayOption = Annotated[
    int,
    typer.Option(
        "--overlay", min=1, help="So many copies of the file at once, each begun elsewhere in it.", metavar="N"
    ),
]
TailOption = Annotated[
    float,
    typer.Option(
        "--tail", min=0.0, max=1.0, help="For each request, so many more of 65,536 to 261,120 prompt tokens, as 0.01."
    ),
]
ShapeOption = Annotated[
    str | None,
    typer.Option(
        "--shape",
        help="Repeat the trace over a day with a quiet night: `day`, or day=4,swing=0.7 for one of 4 hours.",
        metavar="SHAPE",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Of every draw; the same seed, the same run.")]


def chosen_trace(
    path: Path | None,
    fit: str | None,
    *,
    requests: int | None,
    rate: float | None,
    tail: float,
    seed: int,
    overlay: int = 1,
    shape: str | None = None,
) -> Trace:
    """The trace that the options mean: drawn or read, overlaid, cut, then faster, then with a tail, then over a day.

    Raises:
        SetupError: the file cannot be read.
        TraceError: it has a mistake.
    """
    from cluster.simulator.traces import Tail, day_of, over_a_day, with_tail

    if path is not None and fit is not None:
        raise typer.BadParameter("--trace and --fit both say what comes: leave one out")
    if rate is not None and rate <= 0:
        raise typer.BadParameter(f"--rate {rate:g}: over 0")
    if path is None and overlay > 1:
        raise typer.BadParameter(
            "--overlay lays a file over itself: name one with --trace, or draw more with --requests"
        )
    found = _drawn(fit, requests, rate, seed) if path is None else _read(path, overlay, requests, rate)
    if tail:
        found = with_tail(found, Tail(share=tail), seed=seed)
    if shape is None:
        return found
    try:
        return over_a_day(found, day_of(shape))
    except ValueError as error:
        raise typer.BadParameter(f"--shape {shape}: {error}") from error


def _drawn(fit: str | None, requests: int | None, rate: float | None, seed: int) -> Trace:
    from cluster.simulator.traces import DEFAULT_FIT, builtin_fits, generate

    fits, name = builtin_fits(), fit or DEFAULT_FIT
    if name not in fits:
        raise typer.BadParameter(f"--fit {name}: one of {', '.join(fits)}")
    return generate(fits[name], requests=requests or DEFAULT_REQUESTS, seed=seed, requests_per_s=rate)


def _read(path: Path, overlay: int, requests: int | None, rate: float | None) -> Trace:
    from cluster.simulator.traces import faster, first, overlaid, rate_per_s, read_trace

    found = read_trace(path)
    if overlay > 1:
        try:
            found = overlaid(found, overlay)
        except ValueError as error:
            raise typer.BadParameter(f"--overlay {overlay}: {error}") from error
    if requests is not None:
        found = first(found, requests)
    if rate is None:
        return found
    try:
        return faster(found, rate / rate_per_s(found))
    except ValueError as error:
        raise typer.BadParameter(f"--rate {rate:g}: {error}") from error


def traces(
    fit: Annotated[
        Path | None, typer.Option("--fit", help="Print the fit of this trace file as JSON instead.", metavar="FILE")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the traces that can be generated without a file, or fit one to a file."""
    from cluster.cli.simulate_view import show_fits
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
        show_fits(list(builtin_fits().values()))
