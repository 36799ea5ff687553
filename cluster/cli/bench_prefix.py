"""`longreach bench prefix`: what prefix caches and prefix routing save, measured on a cluster of its own.

What must not live here: measuring (loadtest/prefix).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.bench_frame import Frame, JsonFileOption, one_of

if TYPE_CHECKING:
    from loadtest.prefix.plan import Plan

PREFIX_TOKENS_MIN = 512
"""A shorter prompt is not worth fetching anywhere."""
REQUESTS_MAX = 5_000
"""Turns of one policy; a typing error must not become a day's work."""


def prefix(
    json: JsonFileOption = None,
    part: Annotated[str, typer.Option("--part", help="What to measure: ttft, routing or all.", metavar="PART")] = "all",
    model: Annotated[str, typer.Option("--model", "-m", help="Catalog id, hub id or folder.")] = "demo",
    dtype: Annotated[str, typer.Option("--dtype", help="As pools[].engine.dtype.", metavar="TYPE")] = "auto",
    prefix_tokens: Annotated[
        int, typer.Option("--prefix-tokens", min=PREFIX_TOKENS_MIN, help="Length of the prompt whose TTFT is measured.")
    ] = 3_000,
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=100, help="Prompts of which it is measured.")] = 5,
    tier: Annotated[
        str, typer.Option("--tier", help="Compare policies with the Redis tier off, on or both.", metavar="STATE")
    ] = "both",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", help="A routing policy to compare, repeatable; default: round-robin, session, prefix, balanced."
        ),
    ] = None,
    tenants: Annotated[int, typer.Option("--tenants", min=1, max=100, help="Each has a document of its own.")] = 6,
    conversations: Annotated[int, typer.Option("--conversations", min=1, help="Of each tenant.")] = 2,
    turns: Annotated[int, typer.Option("--turns", min=1, help="Of each conversation.")] = 4,
    document_tokens: Annotated[
        int, typer.Option("--document-tokens", min=256, help="About the length of each document.")
    ] = 2_000,
    turn_tokens: Annotated[int, typer.Option("--turn-tokens", min=1, help="About the length of each question.")] = 60,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=8, help="Turns asked at a time.")] = 2,
    cache_share: Annotated[
        list[float] | None,
        typer.Option(
            "--cache-share",
            min=0.1,
            max=100.0,
            help="KV cache of each replica, as a share of all conversations' tokens; from 1.2 on nothing is evicted. "
            "Repeatable; default: 0.6.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every word and of the turns' order.")] = 1,
) -> None:
    """Start two replicas; measure TTFT cold, cached and from Redis, and compare routing policies (about 15 minutes)."""
    from cluster.environment import read_environment
    from loadtest.prefix.bench import PrefixBench
    from loadtest.prefix.plan import CACHE_SHARE, Part, Plan, Tier
    from loadtest.prefix.report import print_report
    from loadtest.prefix.workload import Shape

    frame = Frame(json)
    plan = Plan(
        model=model,
        dtype=one_of(dtype, "--dtype", ("auto", "bfloat16", "float16", "float32")),
        part=Part(one_of(part, "--part", tuple(Part))),
        prefix_tokens=prefix_tokens,
        repeats=repeats,
        shape=Shape(
            tenants=tenants,
            conversations=conversations,
            turns=turns,
            document_words=document_tokens,
            turn_words=turn_tokens,
        ),
        policies=_policies(policy),
        tier=Tier(one_of(tier, "--tier", tuple(Tier))),
        concurrency=concurrency,
        cache_shares=tuple(dict.fromkeys(cache_share or (CACHE_SHARE,))),
        seed=seed,
    )
    _check(plan)
    with frame.measuring() as watcher:
        report = PrefixBench(plan, environment=read_environment(), console=frame.progress, watcher=watcher).run()
    frame.tell(report, print_report)


def _policies(names: list[str] | None) -> tuple[str, ...]:
    from cluster.core.routing import Policy
    from loadtest.prefix.routing import POLICIES

    if not names:
        return POLICIES
    return tuple(dict.fromkeys(one_of(name, "--policy", tuple(Policy)) for name in names))


def _check(plan: Plan) -> None:
    """Refuse at once what would be refused after minutes.

    Raises:
        BadParameter: an option's value.
    """
    if plan.shape.requests > REQUESTS_MAX:
        raise typer.BadParameter(
            f"{plan.shape.requests:,} turns a policy are over {REQUESTS_MAX:,}",
            param_hint="'--tenants', '--conversations', '--turns'",
        )
