"""`longreach loadtest quality`: the same questions under several conditions, and whether the answers agree.

What must not live here: questions and verdicts (loadtest/quality), tables (loadtest_quality_view.py).
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.files import write
from cluster.cli.loadtest_report import STDOUT, HtmlOption, JsonFileOption, say_written, write_json
from cluster.cli.target import CaOption, ConfigOption, KeyOption, ModelOption, UrlOption, api_key, gateway_url, grpc_url

if TYPE_CHECKING:
    from loadtest.quality.answered import QualityRun

EXIT_DIFFERS = 1
"""Answers do not agree, or a condition did not hold."""
NAME_BYTES = 4
REPEATS_MAX = 1_000
OUTPUT_MAX = 4_096


def quality(
    url: UrlOption = None,
    grpc: Annotated[bool, typer.Option("--grpc", help="Over gRPC; addresses are then host:port.")] = False,
    conditions: Annotated[
        str,
        typer.Option(
            "--conditions",
            help="In order, each compared with the first: uncached, cached, single, loaded.",
            metavar="LIST",
        ),
    ] = "uncached,cached,loaded",
    single_url: Annotated[
        str | None,
        typer.Option(
            "--single-url", help="For single: a gateway or engine where one replica answers all.", metavar="URL"
        ),
    ] = None,
    lengths: Annotated[
        str, typer.Option("--lengths", help="Tokens of prompts, template included.", metavar="LIST")
    ] = "1024,2048,4096,8192",
    depths: Annotated[
        str, typer.Option("--depths", help="Where facts are, in percent of the document.", metavar="LIST")
    ] = "0,25,50,75,100",
    kinds: Annotated[
        str, typer.Option("--kinds", help="What is asked: needle, join, order, count.", metavar="LIST")
    ] = "needle,join,order,count",
    languages: Annotated[
        str, typer.Option("--languages", help="english, chinese.", metavar="LIST")
    ] = "english,chinese",
    repeats: Annotated[
        int, typer.Option("--repeats", min=1, max=REPEATS_MAX, help="Questions of each sort and place.")
    ] = 1,
    output_tokens: Annotated[
        int, typer.Option("--output-tokens", min=1, max=OUTPUT_MAX, help="The most of an answer.")
    ] = 32,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--interval",
            help="Answers must be equal, as in fp32, or accuracy must agree. Default: exact for a cluster of this "
            "machine whose pools have dtype float32.",
        ),
    ] = None,
    load: Annotated[
        str | None,
        typer.Option(
            "--load",
            help="For loaded: a scenario, sent meanwhile. Default: chats as long as the question.",
            metavar="SCENARIO",
        ),
    ] = None,
    load_settings: Annotated[
        list[str] | None,
        typer.Option("--load-set", help="An option of that scenario; repeatable.", metavar="KEY=VALUE"),
    ] = None,
    load_concurrency: Annotated[
        int, typer.Option("--load-concurrency", min=1, help="Of its sessions, so many at once.")
    ] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Of questions; the same seed, the same questions.")] = 1,
    salt: Annotated[
        str | None,
        typer.Option("--salt", help="Of the text around: the same salt, the same prompts. Default: a new one."),
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout-s", min=0.1, help="Of one answer.")] = 600.0,
    model: ModelOption = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer", help="Folder with the model's tokenizer; default: the model's, of a cluster of this machine."
        ),
    ] = None,
    api_key_env: KeyOption = None,
    ca_file: CaOption = None,
    out: Annotated[Path | None, typer.Option("--out", help="Keep every answer in this file.", metavar="FILE")] = None,
    html: HtmlOption = None,
    json: JsonFileOption = None,
    config: ConfigOption = None,
) -> None:
    """Ask questions about long documents, cached or not, pooled or not, loaded or not; do the answers agree?"""
    from cluster.cli.loadtest_local import LocalModel, local_model
    from cluster.cli.loadtest_quality_view import following
    from cluster.cli.loadtest_target import look_at
    from cluster.core.errors import SetupError
    from loadtest.client.aim import Aim
    from loadtest.client.job import Job, Times, open_context
    from loadtest.client.runner import Pace
    from loadtest.quality.answered import Condition, QualityRun, write_quality
    from loadtest.quality.options import read_conditions, read_set
    from loadtest.quality.passes import ALIKE, Setting, arguments_of, ask_all
    from loadtest.quality.question_set import fitted, make_set
    from loadtest.scenarios import find_scenario

    # Before anything is asked: a mistake in one is told at once.
    wanted = read_set(
        lengths=lengths,
        depths=depths,
        kinds=kinds,
        languages=languages,
        repeats=repeats,
        output_tokens=output_tokens,
    )
    asked_under = read_conditions(conditions)
    if (Condition.SINGLE in asked_under) != (single_url is not None):
        raise typer.BadParameter("the condition single and --single-url go together: name both, or neither")
    find_scenario(load or ALIKE).read_options(load_settings or ())
    if load is None and load_settings:
        raise typer.BadParameter("--load-set sets an option of a scenario: name one with --load")
    key = api_key(api_key_env)
    address = grpc_url(url, config) if grpc else gateway_url(url, config)
    target = look_at(address, is_grpc=grpc, key=key, ca_file=ca_file, model=model, counts=tokenizer is None)
    local = LocalModel() if url is not None else local_model(config, target.model)
    folder = tokenizer or local.folder
    is_exact = local.is_fp32 if exact is None else exact
    name = f"ltq-{secrets.token_hex(NAME_BYTES)}"
    aim = Aim(url=address, model=target.model, is_grpc=grpc, timeout_s=timeout_s, api_key=key, ca_file=ca_file)
    job = Job(
        name=name,
        scenario=load or ALIKE,
        settings=tuple(load_settings or ()),
        aim=aim,
        pace=Pace(concurrency=load_concurrency),
        times=Times(),
        seed=seed,
        salt=f"{name}-load",
        context_tokens=target.context_tokens,
        tokenizer=folder,
        samples=target.samples,
    )
    context = open_context(replace(job, salt=name if salt is None else salt))
    options, notes = fitted(wanted, context)
    for note in notes:
        typer.echo(f"longreach: {note}", err=True)
    questions = tuple(make_set(options, context))
    if not questions:
        raise SetupError(
            "no question is left to ask", "name lengths that fit the context, and a language that is there"
        )
    setting = Setting(
        aim=aim,
        single=None if single_url is None else replace(aim, url=single_url),
        load=job,
        is_load_alike=load is None,
        name=name,
        output_tokens=output_tokens,
    )
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    with following(len(questions) * len(asked_under)) as watch:
        for so_far, asked in ask_all(questions, asked_under, setting, watch):
            made = QualityRun(
                begun=begun,
                api="grpc" if grpc else "rest",
                arguments=arguments_of(options, setting, context, is_exact=is_exact),
                conditions=so_far,
                asked=asked,
            )
            # After each pass: whatever becomes of the next, this one took long.
            if out is not None:
                write_quality(out, made)
    if not _tell(made, is_exact=is_exact, out=out, html=html, json=json):
        raise typer.Exit(EXIT_DIFFERS)


def quality_compare(
    first: Annotated[Path, typer.Argument(help="What `longreach loadtest quality --out` kept.", metavar="FIRST")],
    second: Annotated[Path, typer.Argument(help="The run that is held against it.", metavar="SECOND")],
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--interval",
            help="Answers must be equal, or accuracy must agree. Default: as both runs were judged, else by accuracy.",
        ),
    ] = None,
    json: JsonFileOption = None,
) -> None:
    """Compare two quality runs of the same set, as before and after an upgrade; the first condition of each."""
    from cluster.cli.loadtest_quality_view import show_difference
    from loadtest.quality.answered import read_quality
    from loadtest.quality.figures import comparison_json
    from loadtest.quality.verdict import compare_runs

    here, there = read_quality(first), read_quality(second)
    names = (first.name, second.name) if first.name != second.name else (str(first), str(second))
    is_exact = all(run.arguments.get("exact") is True for run in (here, there)) if exact is None else exact
    found = compare_runs(here, there, names, is_exact=is_exact)
    if json is not None:
        write_json(json, comparison_json(found))
    if json != STDOUT:
        show_difference(found)
        say_written(json)
    if not found.agrees:
        raise typer.Exit(EXIT_DIFFERS)


def _tell(run: QualityRun, *, is_exact: bool, out: Path | None, html: Path | None, json: Path | None) -> bool:
    """Show a run, and write what was asked for; whether it passes."""
    from cluster.cli.loadtest_quality_view import show_quality
    from loadtest.quality.figures import as_json
    from loadtest.quality.page import quality_page
    from loadtest.quality.verdict import judge

    verdict = judge(run, is_exact=is_exact)
    if html is not None:
        write(html, quality_page(run, verdict))
    if json is not None:
        write_json(json, as_json(run, verdict))
    if json != STDOUT:
        show_quality(run, verdict)
        say_written(out, html, json)
    return verdict.passes
