"""`longreach loadtest run`: sending a load.

What must not live here: sending (loadtest/client), what came of it (loadtest_report.py).
"""

from __future__ import annotations

import math
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.loadtest_report import (
    EXIT_MISSED,
    STDOUT,
    HtmlOption,
    JsonFileOption,
    SloOption,
    ThresholdOption,
    tell,
)
from cluster.cli.target import (
    CaOption,
    ConfigOption,
    KeyOption,
    ModelOption,
    UrlOption,
    admin_url,
    api_key,
    gateway_url,
    grpc_url,
)

if TYPE_CHECKING:
    from loadtest.client.job import Times
    from loadtest.scenarios import Scenario

EXIT_STOPPED = 1
"""A run that ended before its time has not reached what it was asked to."""
NAME_BYTES = 4
"""Of a run's name: enough that the gateway's logs of a day have no two alike."""


def run(
    scenario: Annotated[str, typer.Argument(help="A scenario; `longreach loadtest list` has them.")],
    url: UrlOption = None,
    grpc: Annotated[bool, typer.Option("--grpc", help="Over gRPC; --url is then host:port.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="An option of the scenario; repeatable.", metavar="KEY=VALUE")
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Sessions a second in the mean; default: the scenario's.")
    ] = None,
    arrivals: Annotated[
        str | None,
        typer.Option(
            "--arrivals",
            help="poisson, constant, bursts=ON_S,OFF_S (at --rate while on) or ramp=FIRST,LAST,OVER_S; default: the "
            "scenario's.",
        ),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", help="Instead, the times of this Mooncake or Azure file.", metavar="FILE")
    ] = None,
    speed: Annotated[float, typer.Option("--speed", help="A trace's times are divided by this.")] = 1.0,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=0, help="Closed loop: so many sessions at once instead of due times.")
    ] = 0,
    duration: Annotated[
        float | None,
        typer.Option("--duration", min=0.1, help="Seconds in which requests are due; default: the scenario's."),
    ] = None,
    sessions: Annotated[int | None, typer.Option("--sessions", min=1, help="At most so many sessions.")] = None,
    warmup: Annotated[float, typer.Option("--warmup", min=0, help="Seconds at the begin that sums leave out.")] = 0.0,
    drain: Annotated[
        float, typer.Option("--drain", min=0, help="Seconds that answers may take after the last request was due.")
    ] = 60.0,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=0.1, help="Of one request, from its due time.")
    ] = 600.0,
    stop_errors: Annotated[
        float | None,
        typer.Option("--stop-errors", min=0, max=1, help="End when more than this share of the last 10 s failed."),
    ] = None,
    stop_ttft: Annotated[
        float | None,
        typer.Option("--stop-ttft", min=0, help="End when TTFT of the last 10 s is over this at p95, in seconds."),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Of times, lengths and choices; the same seed, the same run.")
    ] = 1,
    salt: Annotated[
        str | None,
        typer.Option("--salt", help="Of words: the same salt, the same texts, cached ones too. Default: a new one."),
    ] = None,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Ask for whole answers.")] = False,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Client processes; default: by rate and cores.")
    ] = None,
    max_in_flight: Annotated[
        int, typer.Option("--max-in-flight", min=1, help="Sessions at once in one process, at most.")
    ] = 4096,
    model: ModelOption = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="Folder with the model's tokenizer, for exact numbers of tokens."),
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="Of sampling.")] = 0.0,
    priority: Annotated[str, typer.Option("--priority", help="high, normal or low, where a session has none.")] = "",
    api_key_env: KeyOption = None,
    keys_file: Annotated[
        Path | None, typer.Option("--keys-file", help="API keys by tenant, as YAML: `tenant: key`.", metavar="FILE")
    ] = None,
    ca_file: CaOption = None,
    metrics_url: Annotated[
        str | None,
        typer.Option(
            "--metrics-url",
            help="Admin listener of the gateway, to sample memory and replicas; default: the cluster's, without --url.",
            metavar="URL",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Keep every request in this file, packed if it ends in .gz.", metavar="FILE"),
    ] = None,
    slo: SloOption = None,
    threshold: ThresholdOption = None,
    html: HtmlOption = None,
    json: JsonFileOption = None,
    config: ConfigOption = None,
) -> None:
    """Send a scenario to a gateway, and show what came of it; Ctrl-C ends it early with what there is."""
    from cluster.cli.loadtest_progress import following
    from cluster.cli.loadtest_target import look_at
    from loadtest.client.aim import Aim, read_keys
    from loadtest.client.coordinator import Rules, arguments_of, run_load
    from loadtest.client.job import Job, notes_of
    from loadtest.client.runner import Pace
    from loadtest.client.sampling import Sampler
    from loadtest.client.stopping import StopRules
    from loadtest.report import parse_level, parse_threshold
    from loadtest.run_file import write_run
    from loadtest.scenarios import find_scenario

    # Before anything is sent: a mistake in one is told at once.
    level = parse_level(slo)
    for text in threshold or ():
        parse_threshold(text)
    found = find_scenario(scenario)
    found.read_options(settings or ())
    usual_s = 0.0 if trace else found.arrivals.duration_s
    seconds = duration or usual_s or math.inf
    times = _times(found, arrivals, rate, trace, speed, seconds)
    keys = read_keys(keys_file) if keys_file else {}
    key = api_key(api_key_env) or next(iter(keys.values()), None)
    address = grpc_url(url, config) if grpc else gateway_url(url, config)
    target = look_at(address, is_grpc=grpc, key=key, ca_file=ca_file, model=model, counts=tokenizer is None)
    name = f"lt-{secrets.token_hex(NAME_BYTES)}"
    job = Job(
        name=name,
        scenario=scenario,
        settings=tuple(settings or ()),
        aim=Aim(
            url=address,
            model=target.model,
            is_grpc=grpc,
            streams=not no_stream,
            timeout_s=timeout_s,
            api_key=key,
            keys=keys,
            priority=priority,
            ca_file=ca_file,
            temperature=temperature,
        ),
        pace=Pace(duration_s=seconds, concurrency=concurrency, in_flight_max=max_in_flight, drain_s=drain),
        times=times,
        seed=seed,
        salt=name if salt is None else salt,
        context_tokens=target.context_tokens,
        tokenizer=tokenizer,
        samples=target.samples,
        sessions_max=sessions,
        parts=_parts(processes, times, concurrency),
    )
    rules = Rules(warmup_s=warmup, stop=StopRules(errors_ratio=stop_errors, ttft_s=stop_ttft))
    for note in notes_of(job):
        typer.echo(f"longreach: {note}", err=True)
    with following(job, rate_per_s=None if concurrency else rate) as watch:
        sampler = None
        if url is None or metrics_url is not None:
            sampler = Sampler(admin_url(metrics_url, config), api_key=key, duration_s=seconds)
        made = run_load(job, rules, arguments=arguments_of(job, rules), watch=watch, sampler=sampler)
    if sampler is not None and sampler.fault:
        typer.echo(f"longreach: memory and replicas could not be sampled: {sampler.fault}", err=True)
    if out is not None:
        write_run(out, made)
        if json != STDOUT:
            typer.echo(f"Wrote {out}")
    misses = tell(made, level=level, thresholds=threshold or (), html=html, json=json)
    if misses:
        raise typer.Exit(EXIT_MISSED)
    if made.stopped:
        typer.echo(f"longreach: the run was stopped: {made.stopped}", err=True)
        raise typer.Exit(EXIT_STOPPED)


def _parts(asked: int | None, times: Times, concurrency: int) -> int:
    """How many client processes; no more than there are sessions at once."""
    from loadtest.client.job import parts_for

    parts = asked or parts_for(times, concurrency, len(os.sched_getaffinity(0)))
    return min(parts, concurrency) if concurrency else parts


def _times(
    scenario: Scenario, arrivals: str | None, rate: float | None, trace: Path | None, speed: float, seconds: float
) -> Times:
    """When sessions are due.

    Raises:
        BadParameter: options contradict each other, or are out of range.
        SetupError: the arrivals mean nothing.
    """
    from loadtest.client.job import Times, times_of

    if rate is not None and not 0 < rate < math.inf:
        raise typer.BadParameter(f"--rate {rate:g}: over 0")
    if not 0 < speed < math.inf:
        raise typer.BadParameter(f"--speed {speed:g}: over 0")
    if trace is None:
        return times_of(scenario, arrivals, rate, seconds, speed=speed)
    if arrivals is not None or rate is not None:
        raise typer.BadParameter("--trace has its own times: leave --arrivals and --rate out, or use --speed")
    return Times(trace=trace, speed=speed)
