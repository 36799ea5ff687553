"""`longreach down`: ends a cluster, whatever state it is in.

What must not live here: how (teardown.py).
"""

from __future__ import annotations

from cluster.local import interrupt
from cluster.local.rundir import RunDir
from cluster.local.teardown import Ended, tear_down
from cluster.local.up import exclusively


def down(run_dir: RunDir) -> Ended:
    """End the cluster at `run_dir`; one that does not run is fine.

    Raises:
        SetupError: an `up` is at work on it, or a process could not be ended.
    """
    with exclusively(run_dir, purpose="`longreach down`"), interrupt.deferred():
        return tear_down(run_dir)
