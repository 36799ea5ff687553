"""What a run's plots show.

What must not live here: drawing (cluster/plots), pages (page.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

from cluster.plots.scale import Axis
from cluster.plots.svg import Mark, Series, plot
from loadtest.record import Record, Run
from loadtest.report.groups import BAND_NAMES, band_of
from loadtest.report.growth import SUFFIX
from loadtest.report.knee import Knee
from loadtest.report.summary import counted
from loadtest.report.table import MIB
from loadtest.report.timeline import Step, timeline
from loadtest.report.times import ttft_s

CURVE_POINTS = 200
"""Of a distribution; more cannot be seen."""
PLOT_STEPS = 100
"""Of a run over time: finer ones are noise."""
SERIES_MAX = 8
"""More lines in a plot cannot be told apart."""
REPLICAS_SUFFIX = "_replicas"
SECONDS = Axis(label="seconds", is_log=True)
SHARE = Axis(label="share of answers")
TIME = Axis(label="seconds since the begin", is_snug=True)


def distributions(runs: Mapping[str, Run]) -> list[str]:
    """How TTFT and the gaps between tokens are distributed: by label and by prompt length, in each run."""
    plots = []
    by_label = _curves(runs, lambda record: record.label, _ttfts)
    plots.append(plot("Time to first token", SECONDS, SHARE, by_label))
    by_band = _curves(runs, band_of, _ttfts, order=BAND_NAMES)
    if len({band_of(record) for run in runs.values() for record in counted(run) if not record.error}) > 1:
        plots.append(plot("Time to first token by prompt tokens", SECONDS, SHARE, by_band))
    gaps = _curves(runs, lambda record: record.label, _gaps)
    if any(curve.points for curve in gaps):
        plots.append(plot("Time between tokens", SECONDS, Axis(label="share of gaps"), gaps))
    return plots


def over_time(runs: Mapping[str, Run]) -> list[str]:
    """What was due, answered and failed, how many were in flight, TTFT and tokens."""
    whole = {name: timeline(run.records, run.seconds, PLOT_STEPS) for name, run in runs.items()}
    # The last step is seldom a whole one: its rates would seem to drop.
    steps = {name: found[:-1] or found for name, found in whole.items()}
    is_one = len(steps) == 1

    def series(name: str, value: Callable[[Step], float], *, dashed: bool = False) -> list[Series]:
        return [
            Series(
                name=" ".join(filter(None, (run, name))),
                points=[(step.at_s, value(step)) for step in found],
                is_dashed=dashed,
                # Of two runs, each has one colour; of one, each series.
                colour=None if is_one else place,
            )
            for place, (run, found) in enumerate(steps.items())
        ]

    rates = series("due", lambda step: step.due / step.step_s, dashed=True) if is_one else []
    rates += series("answered", lambda step: step.done / step.step_s)
    if any(step.failed for found in steps.values() for step in found):
        rates += series("failed or refused", lambda step: step.failed / step.step_s, dashed=not is_one)
    ttfts = [*series("p50", lambda step: step.ttft_p50_s), *series("p95", lambda step: step.ttft_p95_s, dashed=True)]
    tokens = series("output tokens", lambda step: step.output_tokens / step.step_s)
    return [
        plot("Requests", TIME, Axis(label="requests a second"), rates),
        plot("Time to first token, by when it was due", TIME, SECONDS, ttfts),
        plot("In flight", TIME, Axis(label="requests"), series("in flight", lambda step: float(step.in_flight))),
        plot("Output tokens", TIME, Axis(label="tokens a second"), tokens),
    ]


def knee_plot(knee: Knee) -> str:
    """What was answered against what was offered."""
    most = max(window.offered_per_s for window in knee.windows)
    points = [(window.offered_per_s, window.answered_per_s) for window in knee.windows]
    good = [(window.offered_per_s, window.good_ratio * window.offered_per_s) for window in knee.windows]
    line = [(0.0, 0.0), (knee.capacity_per_s, knee.capacity_per_s), (most, knee.capacity_per_s)]
    return plot(
        "Answered against offered",
        Axis(label="requests due a second"),
        Axis(label="requests a second"),
        [
            Series(name="answered", points=points, mark=Mark.POINTS),
            Series(name="within the service level", points=good, mark=Mark.POINTS),
            Series(name=f"min(offered, {knee.capacity_per_s:.3g})", points=line, is_dashed=True),
        ],
    )


def sampled(metrics: Sequence[Mapping[str, float]]) -> list[str]:
    """Memory and replicas over time, where they were sampled."""
    plots = []
    memory = _samples(metrics, SUFFIX, MIB)
    if memory:
        plots.append(plot("Memory", TIME, Axis(label="MiB"), memory))
    replicas = _samples(metrics, REPLICAS_SUFFIX, 1)
    if replicas:
        plots.append(plot("Replicas", TIME, Axis(label="replicas"), replicas))
    return plots


def _samples(metrics: Sequence[Mapping[str, float]], suffix: str, unit: float) -> list[Series]:
    names = sorted({name for sample in metrics for name in sample if name.endswith(suffix)})
    # Those that were largest, where there are too many.
    peaks = {name: max(sample.get(name, 0.0) for sample in metrics) for name in names}
    shown = sorted(names, key=lambda name: -peaks[name])[:SERIES_MAX]
    return [
        Series(
            name=name.removesuffix(suffix),
            points=[(sample["at_s"], sample[name] / unit) for sample in metrics if name in sample],
            mark=Mark.STEP if unit == 1 else Mark.LINE,
        )
        for name in shown
    ]


def _curves(
    runs: Mapping[str, Run],
    key: Callable[[Record], str],
    values: Callable[[Iterable[Record]], list[float]],
    *,
    order: Sequence[str] = (),
) -> list[Series]:
    curves = []
    for place, (run_name, run) in enumerate(runs.items()):
        rows: dict[str, list[Record]] = {}
        for record in counted(run):
            if not record.error:
                rows.setdefault(key(record), []).append(record)
        names = sorted(rows, key=lambda name: (order.index(name) if name in order else len(order), name))
        for colour, name in enumerate(names[:SERIES_MAX]):
            curves.append(
                Series(
                    name=" ".join(filter(None, (run_name, name))) or "all",
                    points=distribution_points(values(rows[name])),
                    # Two runs: a label has one colour, and the first run is dashed.
                    is_dashed=len(runs) > 1 and place == 0,
                    colour=colour,
                )
            )
    return curves


def _ttfts(records: Iterable[Record]) -> list[float]:
    return [time for record in records if (time := ttft_s(record)) is not None]


def _gaps(records: Iterable[Record]) -> list[float]:
    return list(chain.from_iterable(record.gaps_s for record in records))


def distribution_points(values: Iterable[float]) -> list[tuple[float, float]]:
    """The curve of these values: each with the share that does not exceed it, thinned where they are many."""
    ordered = sorted(values)
    step = max(len(ordered) // CURVE_POINTS, 1)
    places = sorted({*range(0, len(ordered), step), len(ordered) - 1}) if ordered else []
    return [(ordered[place], (place + 1) / len(ordered)) for place in places]
