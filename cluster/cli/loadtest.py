"""`longreach loadtest`: what a service makes of a load.

What must not live here: sending (loadtest/client), reckoning (loadtest/report).
"""

from __future__ import annotations

import typer

from cluster.cli import loadtest_judge, loadtest_list, loadtest_quality, loadtest_report, loadtest_run

app = typer.Typer(help="Load-test a service: scenarios, runs, reports, comparisons.", no_args_is_help=True)
app.command("list")(loadtest_list.scenarios)
app.command()(loadtest_run.run)
app.command()(loadtest_report.report)
app.command()(loadtest_report.compare)
app.command()(loadtest_judge.judge)
app.command()(loadtest_quality.quality)
app.command()(loadtest_quality.quality_compare)
