"""`longreach drain`: take a replica out of use, or back into it.

What must not live here: draining (the gateway tells every other one, by way of the state store).
"""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.target import ConfigOption, GrpcUrlOption, JsonOption, grpc_url, print_json

TIMEOUT_S = 10.0
"""A gateway gives the state store two seconds."""


def drain(
    replica: Annotated[str, typer.Argument(help="Its id, as `longreach status` shows it.")],
    undo: Annotated[bool, typer.Option("--undo", help="Give it requests again.")] = False,
    for_s: Annotated[
        float | None, typer.Option("--for-s", help="For how long, in seconds, at most a day. Default: an hour.")
    ] = None,
    url: GrpcUrlOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Give a replica no new requests, on every gateway; those it has go on to their end."""
    from cluster.environment import read_environment
    from cluster.local.grpc_client import connect, refusals

    if undo and for_s is not None:
        raise typer.BadParameter("--for-s says nothing with --undo")
    target = grpc_url(url, config)
    with connect(target, api_key=read_environment().secret("LONGREACH_API_KEY")) as client, refusals(target):
        answer = client.drain(replica=replica, undo=undo, for_s=for_s, timeout_s=TIMEOUT_S)
    if json:
        print_json({"replica": replica, "is_drained": not undo, "unfinished": answer.unfinished})
    elif undo:
        typer.echo(f"Replica {replica} gets requests again")
    else:
        limit = "" if for_s is None else f" for {for_s:g} s"
        typer.echo(f"Replica {replica} gets no new requests{limit}; it has {answer.unfinished} to finish")
