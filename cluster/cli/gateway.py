"""`longreach gateway`: a gateway alone, in front of static endpoints or of a cluster run elsewhere.

What must not live here: the gateway (services/gateway).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def gateway(
    config: Annotated[Path, typer.Option("--config", "-c", help="Configuration file.", exists=True, dir_okay=False)],
    ready_file: Annotated[
        Path | None, typer.Option("--ready-file", help="Written with port and pid once it accepts connections.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Reload when the configuration or the TLS files change, as SIGHUP does.")
    ] = False,
) -> None:
    """Run a gateway in the foreground; static endpoints need neither Ray nor Redis. SIGHUP reloads the file."""
    from services.gateway.main import run

    raise typer.Exit(run(config.absolute(), deployment_path=None, ready_file=ready_file, is_watching=watch))
