"""`longreach keys`: create, list and revoke the gateway's API keys.

What must not live here: the file (cluster/config/keys.py), checking keys (services/gateway/auth.py).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.target import ConfigOption, JsonOption, print_json, run_dir
from cluster.core.tenant import Role

if TYPE_CHECKING:
    from cluster.config.keys import KeysFile

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)

KEY_PREFIX = "lr-"
"""Lets people, and scanners of leaked secrets, see what it is."""
KEY_BYTES = 32
"""256 random bits; cluster/config/keys.py relies on it."""
ID_BYTES = 4
NOTICE = "a running gateway takes it within seconds"
FileOption = Annotated[
    Path | None,
    typer.Option("--file", "-f", help="The keys file; default: the configuration's gateway.auth.keys_file."),
]
TenantOption = Annotated[str, typer.Option("--tenant", "-t", help="Whose key it is.")]
RoleOption = Annotated[Role, typer.Option("--role", help="What it may do; admin: also the admin listener's routes.")]
CommentOption = Annotated[str, typer.Option("--comment", help="A note for people, such as who has it.")]
IdArgument = Annotated[str, typer.Argument(help="As `longreach keys list` shows it.", metavar="ID")]


@app.command()
def create(
    tenant: TenantOption,
    role: RoleOption = Role.CLIENT,
    file: FileOption = None,
    comment: CommentOption = "",
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key and print it, once: the file keeps only its hash."""
    import datetime as dt

    from cluster.config.keys import KeysFile, digest_of, save_keys

    path = _keys_file(file, config)
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    with _changing(path) as before:
        entry: dict[str, object] = {
            "id": f"key-{secrets.token_hex(ID_BYTES)}",
            "tenant": tenant,
            "role": role.value,
            "sha256": digest_of(key).hex(),
            "created": dt.datetime.now(dt.UTC).date(),
            "comment": comment,
        }
        save_keys(path, _checked(KeysFile, [*before.model_dump()["keys"], entry]))
    if json:
        print_json({"id": entry["id"], "tenant": tenant, "role": role.value, "key": key, "file": str(path)})
    else:
        typer.echo(key)
        typer.echo(f"{entry['id']} for tenant {tenant}, in {path}; this is shown once, and {NOTICE}", err=True)


@app.command("list")
def list_keys(file: FileOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the keys; neither they nor their hashes are shown."""
    from rich.console import Console
    from rich.table import Table

    from cluster.config.keys import load_keys

    keys = load_keys(_keys_file(file, config)).keys
    if json:
        print_json([key.model_dump(mode="json", exclude={"sha256"}) for key in keys])
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    for column in ("id", "tenant", "role", "created", "comment"):
        table.add_column(column, overflow="fold")
    for key in keys:
        table.add_row(key.id, key.tenant, key.role, key.created.isoformat(), key.comment)
    Console(markup=False, highlight=False).print(table)


@app.command()
def revoke(key_id: IdArgument, file: FileOption = None, config: ConfigOption = None, json: JsonOption = False) -> None:
    """Remove a key; requests that are under way go on."""
    from cluster.config.keys import KeysFile, save_keys
    from cluster.core.errors import SetupError

    path = _keys_file(file, config)
    with _changing(path) as before:
        left = [key for key in before.keys if key.id != key_id]
        if len(left) == len(before.keys):
            raise SetupError(f"{path} has no key {key_id}", "longreach keys list")
        save_keys(path, KeysFile(keys=left))
    if json:
        print_json({"id": key_id, "file": str(path), "keys_left": len(left)})
    else:
        typer.echo(f"revoked {key_id}: {NOTICE}")


@contextmanager
def _changing(path: Path) -> Iterator[KeysFile]:
    """The file's content, while nobody else changes it; one that does not exist has no keys yet.

    Raises:
        ConfigError: it has mistakes.
        SetupError: somebody else changes it right now.
    """
    from cluster.config.keys import KeysFile, load_keys
    from cluster.core.errors import SetupError
    from cluster.exclusive import HeldError, hold

    lock = path.resolve().with_name(f".{path.name}.lock")
    try:
        with hold(lock, purpose="longreach keys"):
            yield load_keys(path) if path.exists() else KeysFile(keys=[])
    except HeldError as error:
        raise SetupError(f"{path} is being changed: {error}", "try again") from error
    except OSError as error:
        raise SetupError(f"{path} cannot be changed: {error}", "run this as the user that owns the file") from error


def _checked(schema: type[KeysFile], keys: list[dict[str, object]]) -> KeysFile:
    """The new content, checked as a file's would be.

    Raises:
        SetupError: an option's value is not allowed.
    """
    from pydantic import ValidationError

    from cluster.core.errors import SetupError

    try:
        return schema.model_validate({"keys": keys})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        field = str(first["loc"][-1])
        raise SetupError(f"--{field}: {first['msg']}", "longreach keys create --help") from error


def _keys_file(file: Path | None, config: Path | None) -> Path:
    """The file that is meant.

    Raises:
        ConfigError: the configuration has mistakes, or there is none.
        SetupError: it names no keys file.
    """
    from cluster.config import load_config
    from cluster.core.errors import SetupError

    if file is not None:
        return file
    path = config or run_dir(None).config
    remedy = "name one with --file, and in the configuration: gateway.auth.keys_file"
    if not path.exists():
        raise SetupError("no cluster runs whose keys file could be meant", remedy)
    named = load_config(path).gateway.auth.keys_file
    if named is None:
        raise SetupError(f"{path} names no keys file", remedy)
    return Path(named)
