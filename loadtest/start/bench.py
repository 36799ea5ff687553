"""The whole bench: the cluster, the starts in turns, and everything that came of it as one report.

What must not live here: how a start is measured (measure.py), tables (report.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.environment import Environment
from loadtest.own_cluster import own_cluster
from loadtest.prefix.client import BenchError, open_client
from loadtest.prefix.progress import Watcher
from loadtest.start.configuration import CLUSTER, Plan, configuration, turns
from loadtest.start.measure import Start, Starter
from loadtest.start.results import TARGET_RATIO, ratio, summary


def measure_starts(plan: Plan, *, environment: Environment, console: Console, watcher: Watcher) -> dict[str, Any]:
    """Run it.

    Raises:
        SetupError: this machine cannot run it, or another bench is at work.
        ModelStoreError: the model cannot be had.
        BenchError: a replica did not come back, or did not answer.
        InterruptedBySignal: after everything has been taken down again.
    """

    def write(folder: Path, port_min: int) -> Mapping[str, Any]:
        del folder
        return configuration(plan, port_min=port_min)

    own = own_cluster(CLUSTER, write, purpose="`longreach bench start`", environment=environment, console=console)
    with own as started, open_client() as http:
        starter = Starter(started.run_dir, http)
        starts: list[Start] = []
        todo = turns(plan.rounds)
        watcher.begins("starts", len(todo))
        try:
            for way in todo:
                watcher.step(f"a {way} one")
                starts.append(starter.start(way))
        except BenchError as error:
            raise BenchError(f"{error}\n  its logs are in {started.run_dir.logs}") from error
        finally:
            watcher.ends()
    rows = summary(starts)
    found = ratio(rows)
    return {
        "setup": asdict(plan) | {"cores": len(os.sched_getaffinity(0))},
        "rows": rows,
        "ratio": found,
        "target_ratio": TARGET_RATIO,
        "met": None if found is None else found <= TARGET_RATIO,
        "starts": [asdict(start) | {"first_token_s": start.first_token_s} for start in starts],
    }
