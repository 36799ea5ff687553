"""`longreach models`: what the model store knows and holds.

What must not live here: the store (cluster/models).
"""

from __future__ import annotations

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
def pull(name: NameArgument, revision: RevisionOption = None, json: JsonOption = False) -> None:
    """Fetch a model, verified; one that is here already is left alone."""
    from rich.console import Console

    from cluster.local.weights import drawn_progress

    console = Console(stderr=True)
    with drawn_progress(console) as progress:
        folder = _store().pull(name, revision=revision, progress=progress)
    if json:
        print_json({"id": name, "path": str(folder)})
    else:
        typer.echo(str(folder))


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
    from cluster.models.store import open_store

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
