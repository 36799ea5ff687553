"""The commands, put together; and the one place where faults become messages and exit statuses.

What must not live here: commands.
"""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from cluster.cli import (
    autoscale,
    bench,
    cache,
    chaos,
    chat,
    config,
    demo,
    drain,
    explain,
    gateway,
    k8s,
    keys,
    lifecycle,
    loadtest,
    logs,
    models,
    plan,
    simulate,
    top,
    trace,
    usage,
)
from cluster.core.errors import ConfigError, LongreachError

EXIT_FAILED = 1
EXIT_USAGE = 2


class ReportingGroup(TyperGroup):
    """Prints what Longreach raises on purpose without a traceback; anything else is a defect and shows one."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            typer.echo("\n".join(error.lines()), err=True)
            raise typer.Exit(EXIT_USAGE) from error
        except LongreachError as error:
            typer.echo(f"longreach: {error}", err=True)
            raise typer.Exit(EXIT_FAILED) from error
        except BrokenPipeError:
            # The reader (`| head`) has seen enough; Python would complain again when it flushes.
            sys.stderr.close()
            raise typer.Exit(EXIT_FAILED) from None


app = typer.Typer(
    name="longreach",
    cls=ReportingGroup,
    help="Serve large language models with long contexts: pools by context length, one endpoint.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(lifecycle.up)
app.command()(lifecycle.down)
app.command()(lifecycle.status)
app.command()(top.top)
app.command()(logs.logs)
app.command()(chat.chat)
app.command()(demo.demo)
app.command()(gateway.gateway)
app.command()(usage.usage)
app.command()(trace.trace)
app.command()(explain.explain)
app.command()(drain.drain)
app.add_typer(autoscale.app, name="autoscale")
app.add_typer(bench.app, name="bench")
app.add_typer(cache.app, name="cache")
app.add_typer(chaos.app, name="chaos")
app.add_typer(k8s.app, name="k8s")
app.add_typer(keys.app, name="keys")
app.add_typer(loadtest.app, name="loadtest")
app.add_typer(models.app, name="models")
app.add_typer(config.app, name="config")
app.add_typer(plan.app, name="plan")
app.add_typer(simulate.app, name="simulate")
