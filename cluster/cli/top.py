"""`longreach top`: pools, replicas, queues, hit rates and tokens per second, live.

What must not live here: reading and arithmetic (cluster/local/top), tables (top_view.py).
"""

from __future__ import annotations

import asyncio
import json as json_text
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.target import ConfigOption, JsonOption, admin_url
from cluster.core.errors import LongreachError
from cluster.environment import read_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cluster.local.top.reading import Reader
    from cluster.local.top.sight import Sight

INTERVAL_S = 2.0
"""Long enough that a rate over it does not jump with each request."""
INTERVAL_MIN_S = 0.5
"""A look costs each engine's API process some 10 ms."""
INTERVAL_MAX_S = 3600.0


def top(
    url: Annotated[str | None, typer.Option("--url", help="Address of the admin listener.", metavar="URL")] = None,
    interval: Annotated[
        float,
        typer.Option("--interval", "-n", min=INTERVAL_MIN_S, max=INTERVAL_MAX_S, help="Seconds between two looks."),
    ] = INTERVAL_S,
    once: Annotated[bool, typer.Option("--once", help="Look twice, print what changed in between, and end.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Watch pools, replicas, queues, hit rates and tokens per second, until Ctrl-C."""
    from cluster.local.top.reading import Reader

    reader = Reader(admin_url(url, config), api_key=read_environment().secret("LONGREACH_API_KEY"))
    try:
        asyncio.run(_watch(reader, interval, once=once, json=json))
    except KeyboardInterrupt:
        return


async def _watch(reader: Reader, interval_s: float, *, once: bool, json: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from cluster.cli.top_view import top_view, trouble_view

    console = Console()
    async with reader:
        if json:
            async for sight in _sights(reader, interval_s, once=once):
                typer.echo(json_text.dumps(sight.to_dict(), indent=2 if once else None, ensure_ascii=False))
            return
        if once:
            with console.status(f"comparing two looks, {interval_s:g} s apart"):
                found = [sight async for sight in _sights(reader, interval_s, once=True)]
            console.print(top_view(found[-1], reader.url, width=console.width))
            return
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                try:
                    async for sight in _sights(reader, interval_s, once=False):
                        view = top_view(sight, reader.url, width=console.width, lines_max=console.height)
                        live.update(view, refresh=True)
                except LongreachError as error:
                    # The gateway may be restarting: counters begin anew with the next look.
                    live.update(trouble_view(str(error), reader.url), refresh=True)
                    await asyncio.sleep(interval_s)


async def _sights(reader: Reader, interval_s: float, *, once: bool) -> AsyncIterator[Sight]:
    """What each look but the first says together with the one before.

    Raises:
        LongreachError: the gateway cannot be read.
    """
    from cluster.local.top.sight import look

    before = await reader.read()
    while True:
        await asyncio.sleep(interval_s)
        now = await reader.read()
        yield look(before, now)
        if once:
            return
        before = now
