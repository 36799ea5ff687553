"""A load test under way, drawn on standard error.

What must not live here: counting (loadtest/client/live.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from loadtest.client.job import Job
    from loadtest.client.live import Snapshot


@contextmanager
def following(job: Job, *, rate_per_s: float | None, title: str = "") -> Iterator[Callable[[Snapshot], None]]:
    """Draw what a run is doing until it ends.

    Args:
        job: the run.
        rate_per_s: sessions a second that were asked for; None: not one rate.
        title: of a run that is one of several.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    begun = Text(f"starting {job.parts} client {'process' if job.parts == 1 else 'processes'}")
    # Drawn when there is news, and by no thread of its own: the client shares these cores.
    with Live(begun, console=Console(stderr=True), transient=True, auto_refresh=False) as live:
        yield lambda now: live.update(_table(now, job, rate_per_s, title), refresh=True)


def _table(now: Snapshot, job: Job, rate_per_s: float | None, title: str) -> Table:
    from rich.table import Table

    aimed = "" if rate_per_s is None else f" of {rate_per_s:,.4g} sessions"
    seconds = job.pace.duration_s
    of = "" if math.isinf(seconds) else f" of {seconds:,.0f} s"
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    cells = {
        **({"": title} if title else {}),
        "time": f"{max(now.elapsed_s, 0):,.0f} s{of}",
        "sent": f"{now.counts.sent:,}",
        "in flight": f"{now.counts.in_flight:,}",
        "done": f"{now.counts.done:,}",
        "failed": f"{now.counts.failed:,}",
        "TTFT p50": f"{now.ttft_p50_s * 1000:,.0f} ms",
        "TTFT p95": f"{now.ttft_p95_s * 1000:,.0f} ms",
        "sent a second": f"{now.sent_per_s:,.1f}{aimed}",
    }
    for name in cells:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(*cells.values())
    return table
