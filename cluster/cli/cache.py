"""`longreach cache`: what the Redis with KV blocks holds, by model and tenant, and clearing it.

What must not live here: Redis (cluster/state/blocks.py), tables (cache_view.py), whose blocks are whose
(cluster/local/kv_cache.py).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.target import ConfigOption, JsonOption, print_json, run_dir

if TYPE_CHECKING:
    from cluster.core.tier.contents import Contents, Selection
    from cluster.local.kv_cache import KvCache
    from cluster.local.tier_counters import ReplicaCounters
    from cluster.state.blocks import BlockStore

app = typer.Typer(help="Look at the KV blocks in Redis, and clear them.", no_args_is_help=True)
ENGINES_KEEP = "What replicas hold in their own memory is not touched, and they go on storing what they compute"
TenantOption = Annotated[
    str | None, typer.Option("--tenant", "-t", help="Only this tenant's blocks: a name, or a tag as `stats` shows it.")
]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Only this model's blocks: an id, or a fingerprint as `stats` shows it."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where nobody can be asked.")]


@app.command()
def stats(
    tenant: TenantOption = None, model: ModelOption = None, config: ConfigOption = None, json: JsonOption = False
) -> None:
    """Show blocks, tokens and bytes by model and tenant, and the server's own figures."""
    from rich.console import Console

    from cluster.cli.cache_view import stats_view
    from cluster.core.tier.contents import rows

    with _opened(config) as (cache, store):
        figures = store.figures()
        contents = _counted(store, "counting blocks")
        selection = _selected(cache, contents, tenant, model)
    found = rows(contents, cache.names, selection)
    replicas, no_replicas = _replicas(cache)
    if json:
        print_json(
            {
                "server": {"url": cache.server.url, **asdict(figures)},
                "rows": [asdict(row) for row in found],
                "total": {
                    "blocks": sum(row.blocks for row in found),
                    "size_bytes": sum(row.size_bytes for row in found),
                },
                "tenants_unknown_because": cache.ignorance or None,
                "replicas": [asdict(replica) for replica in replicas],
                "replicas_unknown_because": no_replicas or None,
            }
        )
        return
    Console().print(stats_view(cache.server.url, figures, found, replicas))
    if no_replicas:
        typer.echo(f"longreach: replicas are not shown: {no_replicas}", err=True)
    if cache.ignorance:
        typer.echo(f"longreach: tenants are shown by their tags: {cache.ignorance}", err=True)


@app.command()
def clear(
    tenant: TenantOption = None,
    model: ModelOption = None,
    yes: YesOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Remove KV blocks from Redis: all, or one tenant's, or one model's. Shows what would go, and asks."""
    from rich.console import Console

    from cluster.cli.cache_view import rows_view
    from cluster.core.tier.contents import rows

    with _opened(config) as (cache, store):
        contents = _counted(store, "counting blocks")
        selection = _selected(cache, contents, tenant, model)
        found = rows(contents, cache.names, selection)
        blocks = sum(row.blocks for row in found)
        if found and not yes:
            Console(stderr=True).print(rows_view(found))
            _ask(blocks, is_program=json)
        removed = _removed(store, selection) if found else 0
    if json:
        print_json({"removed_blocks": removed, "rows": [asdict(row) for row in found], "engine_caches": "not touched"})
    elif not found:
        typer.echo("Nothing to clear")
    else:
        typer.echo(f"Removed {removed:,} blocks. {ENGINES_KEEP}")


def _replicas(cache: KvCache) -> tuple[tuple[ReplicaCounters, ...], str]:
    """What the tiers of live replicas have done, and why nobody knows."""
    from cluster.local.state_view import read_state
    from cluster.local.tier_counters import read_counters

    state = read_state(cache.state_url, cache.cluster)
    if state.error:
        return (), f"the state store cannot be read: {state.error}"
    return read_counters([lease for lease in state.leases if lease.pool in cache.pools], cache.secret), ""


def _ask(blocks: int, *, is_program: bool) -> None:
    """Go on only when somebody says so.

    Raises:
        SetupError: there is nobody to ask.
        Abort: the answer is no.
    """
    from cluster.core.errors import SetupError

    if is_program or not _can_be_asked():
        raise SetupError(f"{blocks:,} blocks would go, and nobody can be asked", "look above, then add --yes")
    typer.confirm(f"Remove these {blocks:,} blocks?", abort=True, err=True)


def _can_be_asked() -> bool:
    return sys.stdin.isatty()


def _selected(cache: KvCache, contents: Contents, tenant: str | None, model: str | None) -> Selection:
    """What the options mean.

    Raises:
        SetupError: there is no such tenant or model.
    """
    from cluster.core.errors import SetupError
    from cluster.core.tier.contents import Selection, fingerprints_of

    fingerprints = None
    if model is not None:
        fingerprints = fingerprints_of(model, contents, cache.models)
        if fingerprints is None:
            known = cache.models | {name for each in contents.abouts for name in contents.models(each)}
            raise SetupError(
                f"no model {model!r}: there are {', '.join(sorted(known))}",
                "name one of them, or a fingerprint that `longreach cache stats` shows",
            )
    return Selection(fingerprints=fingerprints, tenant_tag=cache.tag(tenant) if tenant is not None else None)


def _counted(store: BlockStore, doing: str) -> Contents:
    with _progress(store, doing) as on_looked_at:
        return store.contents(on_looked_at)


def _removed(store: BlockStore, selection: Selection) -> int:
    with _progress(store, "removing blocks") as on_looked_at:
        return store.remove(selection, on_looked_at)


@contextmanager
def _progress(store: BlockStore, doing: str) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=max(store.keys(), 1))
        yield lambda looked_at: bar.update(task, completed=looked_at)


@contextmanager
def _opened(config: Path | None) -> Iterator[tuple[KvCache, BlockStore]]:
    from cluster.environment import read_environment
    from cluster.local.kv_cache import find_kv_cache
    from cluster.state.blocks import BlockStore

    cache = find_kv_cache(run_dir(config), config, read_environment())
    store = BlockStore(cache.server)
    try:
        yield cache, store
    finally:
        store.close()
