"""`longreach explain`: what would become of a request, and why, without sending it.

What must not live here: deciding (the gateway does).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.target import ConfigOption, JsonOption, admin_url, print_json
from cluster.core.errors import LongreachError, SetupError
from cluster.environment import read_environment

TIMEOUT_S = 30.0
"""A prompt of a million tokens is counted in a second; a busy gateway may take longer."""


def explain(
    file: Annotated[Path, typer.Argument(help="Request body, JSON; - reads standard input.", allow_dash=True)],
    route: Annotated[str, typer.Option("--route", help="What it would be sent to.")] = "chat/completions",
    url: Annotated[str | None, typer.Option("--url", help="Address of the admin listener.", metavar="URL")] = None,
    config: ConfigOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show which pool and replica a request would go to, every score, and who was passed over and why."""
    import httpx

    body = sys.stdin.buffer.read() if str(file) == "-" else _read(file)
    key = read_environment().secret("LONGREACH_API_KEY")
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    target = f"{admin_url(url, config)}/debug/route"
    try:
        answer = httpx.post(target, params={"route": route}, content=body, headers=headers, timeout=TIMEOUT_S)
        data = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise SetupError(f"{target} gives no answer: {error}", "start the cluster, or name it: --url URL") from error
    if answer.is_error:
        raise LongreachError(data.get("error", {}).get("message", answer.text))
    if json_output:
        print_json(data)
    else:
        _show(data)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SetupError(f"{file} cannot be read: {error.strerror}", "name a file with a request body") from error


def _show(data: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    need = data.get("need")
    if need:
        console.print(f"prompt {need['prompt_tokens']} ({need['count']}) + output {need['output_tokens']} tokens")
    console.print(
        f"outcome: [bold]{data['outcome']}[/bold]" + (f" ({', '.join(data['pools'])})" if "pools" in data else "")
    )
    if data.get("choices"):
        table = Table("#", "pool", "replica", "cached", "in Redis", "score", "scores", "why")
        for place, choice in enumerate(data["choices"], 1):
            scores = " ".join(f"{name}={score}" for name, score in choice["scores"].items())
            held = (str(choice["resident_tokens"]), str(choice["fetched_tokens"]))
            table.add_row(
                str(place), choice["pool"], choice["replica"], *held, str(choice["score"]), scores, choice["reason"]
            )
        console.print(table)
    for one in data.get("rejected", ()):
        console.print(f"passed over: {one['replica']} of {one['pool']}: {one['reason']}")
