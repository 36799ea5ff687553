"""`longreach loadtest judge`: our load client beside another project's, on one load.

What must not live here: running them (loadtest/judges).
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.loadtest_report import STDOUT, JsonFileOption, say_written, write_json
from cluster.cli.target import CaOption, ConfigOption, KeyOption, ModelOption, UrlOption, api_key, gateway_url

if TYPE_CHECKING:
    from cluster.environment import Environment
    from loadtest.judges.load import Goal, Load

EXIT_NOT_SHOWN = 1
"""That the two agree was not shown: they differ, it is too noisy to tell, or they cannot be compared."""
RATE_PER_S = 2.0
NAME_BYTES = 4


def judge(
    name: Annotated[str, typer.Argument(help="vllm (`vllm bench serve`) or guidellm.")],
    url: UrlOption = None,
    prompt_tokens: Annotated[
        int, typer.Option("--prompt-tokens", min=1, help="Of each prompt, template included.")
    ] = 512,
    output_tokens: Annotated[int, typer.Option("--output-tokens", min=2, help="Of each answer.")] = 64,
    requests: Annotated[int, typer.Option("--requests", min=2, help="In each round, of each tool.")] = 50,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.001, help="Requests a second; default: 2.", show_default=False)
    ] = None,
    arrivals: Annotated[
        str, typer.Option("--arrivals", help="constant, or poisson: each tool draws its own times.")
    ] = "constant",
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=0, help="Closed loop: so many at once instead of a rate.")
    ] = 0,
    repeats: Annotated[int, typer.Option("--repeats", min=2, help="Rounds; in each both tools run once.")] = 5,
    seed: Annotated[int, typer.Option("--seed", help="Of times; words are new each time.")] = 1,
    python: Annotated[
        Path | None,
        typer.Option(
            "--python",
            help="An interpreter that has the judge. Default: for vllm the one that runs longreach; for guidellm an "
            "environment of its own, made on first use.",
            metavar="PATH",
        ),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=1, help="Of one round of the judge, its start included.")
    ] = 1800.0,
    model: ModelOption = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option("--tokenizer", help="Folder with the model's tokenizer; default: the model's, if it is here."),
    ] = None,
    api_key_env: KeyOption = None,
    ca_file: CaOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Keep what both tools wrote in this folder.", metavar="FOLDER")
    ] = None,
    json: JsonFileOption = None,
    config: ConfigOption = None,
) -> None:
    """Run our client and another project's in turns, and say whether they measure the same; exit status 1 if not."""
    from cluster.cli.loadtest_progress import following
    from cluster.environment import read_environment
    from cluster.simulator.report.table import finite
    from loadtest.judges.agreement import Verdict, agreement
    from loadtest.judges.interpreter import find_interpreter
    from loadtest.judges.registry import find_judge
    from loadtest.judges.rounds import Rounds
    from loadtest.judges.table import as_json

    found = find_judge(name)
    load = _load(prompt_tokens, output_tokens, requests, rate, arrivals, concurrency)
    environment = read_environment()
    goal = _goal(
        gateway_url(url, config), api_key(api_key_env), ca_file=ca_file, model=model, tokenizer=tokenizer,
        environment=environment,
    )  # fmt: skip
    _fits(load, goal)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ending_by_signal())
        with _waiting(f"looking for {found.title}") as say:
            interpreter = find_interpreter(
                found, python, cache=environment.cache_home / "judges", variables=environment.variables, say=say
            )
        known = found.distribution.version
        if interpreter.version.partition("+")[0] != known:
            typer.echo(f"longreach: {found.title} {interpreter.version}: what is read is that of {known}", err=True)
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="longreach-judge-")))
        rounds = Rounds(
            judge=found,
            interpreter=interpreter,
            load=load,
            goal=goal,
            repeats=repeats,
            seed=seed,
            name=f"lj-{secrets.token_hex(NAME_BYTES)}",
            folder=folder.absolute(),
            timeout_s=timeout_s,
            variables=environment.variables,
        )
        ours, theirs = rounds.run(
            following=lambda job, title: following(job, rate_per_s=load.rate_per_s, title=title), waiting=_waiting
        )
    compared = agreement(ours, theirs)
    if json is not None:
        head = {"judge": found.title, "version": interpreter.version, "load": _told(load), "model": goal.model}
        write_json(json, finite({**head, **as_json(compared, ours, theirs)}))
    if json != STDOUT:
        from cluster.cli.loadtest_view import show_agreement

        show_agreement(compared, ours, theirs, title=f"{found.title} {interpreter.version} beside our client")
        say_written(json, out)
    if compared.verdict is not Verdict.AGREES:
        raise typer.Exit(EXIT_NOT_SHOWN)


def _load(
    prompt_tokens: int, output_tokens: int, requests: int, rate: float | None, arrivals: str, concurrency: int
) -> Load:
    from loadtest.arrivals import Spacing
    from loadtest.judges.load import Load

    if arrivals not in {str(one) for one in Spacing}:
        raise typer.BadParameter(f"--arrivals {arrivals}: constant or poisson")
    if concurrency and rate is not None:
        raise typer.BadParameter("--concurrency is a closed loop, and has no --rate")
    if concurrency > requests:
        raise typer.BadParameter(f"--concurrency {concurrency}: at most --requests, {requests}")
    return Load(
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        requests=requests,
        rate_per_s=None if concurrency else rate or RATE_PER_S,
        spacing=Spacing(arrivals),
        concurrency=concurrency,
    )


def _goal(
    url: str,
    key: str | None,
    *,
    ca_file: Path | None,
    model: str | None,
    tokenizer: Path | None,
    environment: Environment,
) -> Goal:
    from cluster.cli.loadtest_target import look_at
    from loadtest.judges.load import Goal
    from loadtest.text import load_writer

    target = look_at(url, is_grpc=False, key=key, ca_file=ca_file, model=model, counts=False)
    folder = (tokenizer or _tokenizer_of(target.model, environment)).absolute()
    return Goal(
        url=url.rstrip("/").removesuffix("/v1"),
        model=target.model,
        context_tokens=target.context_tokens,
        tokenizer=folder,
        template_tokens=load_writer(folder).wrapping.chat_tokens,
        api_key=key,
        ca_file=ca_file.absolute() if ca_file else None,
    )


def _fits(load: Load, goal: Goal) -> None:
    """Refuse what our client would make smaller, and a judge would not.

    Raises:
        BadParameter: prompt and answer are longer than the model's context, or the prompt has no room for words.
    """
    from loadtest.scenarios.scenario import CONTEXT_SLACK_TOKENS

    most = goal.context_tokens - CONTEXT_SLACK_TOKENS
    if load.prompt_tokens + load.output_tokens > most:
        raise typer.BadParameter(f"--prompt-tokens and --output-tokens: together at most {most:,} for {goal.model}")
    if load.prompt_tokens <= goal.template_tokens:
        raise typer.BadParameter(f"--prompt-tokens {load.prompt_tokens}: the template alone has {goal.template_tokens}")


def _tokenizer_of(model: str, environment: Environment) -> Path:
    """The folder of a model that is on this machine.

    Raises:
        SetupError: it is not.
    """
    from cluster.core.errors import ModelStoreError, SetupError
    from cluster.models.opening import open_store

    try:
        return open_store(environment).path(model)
    except ModelStoreError as error:
        raise SetupError(
            f"judges need the tokenizer of {model}, and this machine does not have it",
            "name its folder with --tokenizer",
        ) from error


def _told(load: Load) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(load), "spacing": str(load.spacing)}


@contextlib.contextmanager
def _ending_by_signal() -> Iterator[None]:
    """Within, Ctrl-C and other signals that end a process end everything that was started, and then this one."""
    from cluster.local.interrupt import InterruptedBySignal, raising

    try:
        with raising():
            yield
    except InterruptedBySignal as signal:
        raise typer.Exit(signal.exit_status) from None


@contextlib.contextmanager
def _waiting(what: str) -> Iterator[Callable[[str], None]]:
    """A line on standard error, with the time, until it is done; its words can be changed."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    # Twice a second: a judge at work shares these cores.
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=2) as progress:
        task = progress.add_task(what)
        yield lambda words: progress.update(task, description=words)
