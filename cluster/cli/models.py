"""`longreach models`: what the model store knows and holds.

What must not live here: the store (cluster/models).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.target import JsonOption, print_json

if TYPE_CHECKING:
    from cluster.models.store import ModelStatus, ModelStore

app = typer.Typer(help="List, fetch, find and remove models.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="Catalog id, hub id (org/name) or folder.")]
GIGABYTE = 10**9
KIBIBYTE = 2**10
SHORT_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
"""As people write them; of a quantized model the quantization is shown instead. JSON has both, in full."""
RevisionOption = Annotated[str | None, typer.Option(help="Branch, tag or commit, for hub models.")]


@app.command("list")
def list_models(json: JsonOption = False) -> None:
    """List the catalog, and what is on disk."""
    from rich.console import Console
    from rich.table import Table

    entries = [_entry(entry) for entry in _store().list()]
    if json:
        print_json(entries)
        return
    # 78 columns with the catalog's longest name; longer ones (hub ids) are folded, numbers and headers never are.
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold")
    for column in ("context", "KV/token", "weights"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("dtype", "licence", "here"):
        table.add_column(column, no_wrap=True)
    for entry in entries:
        table.add_row(
            entry["id"],
            f"{entry['context_tokens']:,}",
            _kibibytes(entry["kv_bytes_per_token"]),
            _size(entry["weights_bytes"]),
            SHORT_DTYPES.get(entry["dtype"], entry["dtype"])
            if entry["quantization"] == "none"
            else entry["quantization"],
            entry["licence"] or "-",
            _size(entry["size_bytes"]) if entry["path"] else "partly" if entry["partial_bytes"] else "-",
        )
    Console().print(table)


@app.command()
def pull(
    name: Annotated[str | None, typer.Argument(help="Catalog id, hub id (org/name) or folder.")] = None,
    revision: RevisionOption = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Instead of a name: every model that pools with replicas of it need."),
    ] = None,
    tokenizer_only: Annotated[
        bool,
        typer.Option("--tokenizer-only", help="Configuration, tokenizer and chat template, as a gateway needs them."),
    ] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on without a model that cannot be had, and do not fail for it.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Fetch a model, or all of a configuration, verified; what is here already is left alone."""
    wanted = _wanted(name, revision, config)
    found = [_pulled(source, at, tokenizer_only=tokenizer_only, keep_going=keep_going) for source, at in wanted]
    if config is not None and json:
        print_json(found)
    elif json:
        print_json(found[0])
    else:
        for entry in found:
            if entry["path"] is not None:
                typer.echo(entry["path"])


def _wanted(name: str | None, revision: str | None, config: Path | None) -> list[tuple[str, str | None]]:
    """Sources, each with its revision.

    Raises:
        ConfigError: the configuration has mistakes.
    """
    from cluster.config import load_config
    from cluster.local.weights import served_models

    if (name is None) == (config is None):
        raise typer.BadParameter("name a model, or a configuration with --config")
    if name is not None:
        return [(name, revision)]
    if revision is not None:
        raise typer.BadParameter("a configuration says itself which revision of which model", param_hint="--revision")
    assert config is not None
    return [(model.source or model.id, model.revision) for model in served_models(load_config(config))]


def _pulled(source: str, revision: str | None, *, tokenizer_only: bool, keep_going: bool) -> dict[str, str | None]:
    """One model, as it is told to programs.

    Raises:
        ModelStoreError: it cannot be had.
    """
    from rich.console import Console

    from cluster.core.errors import ModelStoreError
    from cluster.environment import read_environment
    from cluster.local.weights import drawn_progress
    from cluster.models.opening import open_store, open_tokenizers

    environment = read_environment()
    store = open_tokenizers(environment) if tokenizer_only else open_store(environment)
    console = Console(stderr=True)
    try:
        with drawn_progress(console) as progress:
            return {"id": source, "path": str(store.pull(source, revision=revision, progress=progress))}
    except ModelStoreError as error:
        if not keep_going:
            raise
        console.print(f"longreach: goes on without {source}: {error}", highlight=False, markup=False, soft_wrap=True)
        return {"id": source, "path": None, "error": str(error)}


@app.command()
def path(name: NameArgument, revision: RevisionOption = None, json: JsonOption = False) -> None:
    """Print the folder of a model that is here."""
    folder = _store().path(name, revision=revision)
    if json:
        print_json({"id": name, "path": str(folder)})
    else:
        typer.echo(str(folder))


@app.command()
def remove(name: NameArgument, json: JsonOption = False) -> None:
    """Delete a model from this machine; a folder of your own is never touched."""
    freed_bytes = _store().remove(name)
    if json:
        print_json({"id": name, "freed_bytes": freed_bytes})
    else:
        typer.echo(f"removed {name}: {_size(freed_bytes)} freed")


def _store() -> ModelStore:
    from cluster.environment import read_environment
    from cluster.models.opening import open_store

    return open_store(read_environment())


def _entry(entry: ModelStatus) -> dict[str, Any]:
    card = entry.card
    return {
        "id": card.id,
        "context_tokens": card.context_tokens,
        "kv_bytes_per_token": card.kv_bytes_per_token,
        "weights_bytes": card.weights_bytes,
        "dtype": str(card.dtype),
        "quantization": str(card.quantization),
        "licence": card.licence,
        "description": card.description,
        "path": str(entry.path) if entry.path else None,
        "size_bytes": entry.size_bytes,
        "partial_bytes": entry.partial_bytes,
    }


def _kibibytes(size_bytes: int) -> str:
    return f"{size_bytes / KIBIBYTE:.0f} KiB" if size_bytes >= KIBIBYTE else f"{size_bytes} B"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= GIGABYTE else f"{size_bytes / 1e6:.0f} MB"
