from __future__ import annotations

import os
import subprocess
import sys
import time

from loadtest.bench.machine import busy_s, cpu_s, pick_cores, pinned, process_tree, pss_mb


def test_cores_are_ones_this_process_may_use() -> None:
    cores = pick_cores()
    allowed = os.sched_getaffinity(0)
    assert {cores.load, cores.router} <= allowed
    assert cores.is_shared == (len(allowed) == 1)


def test_pinning_ends_with_its_block_and_reaches_children() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    with pinned(core):
        shown = subprocess.run(
            [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert shown.stdout.strip() == str({core})
    assert os.sched_getaffinity(0) == before


def test_a_tree_is_a_process_and_its_children() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert {os.getpid(), child.pid} <= set(process_tree(os.getpid()))
        assert pss_mb(child.pid) > 0
        child.communicate(b"\n")


def test_cpu_of_a_tree_grows_with_its_work() -> None:
    before_s, work_s = cpu_s(os.getpid()), time.process_time()
    while time.process_time() - work_s < 0.05:
        pass
    assert cpu_s(os.getpid()) - before_s >= 0.05


def test_a_process_that_is_gone_has_used_nothing() -> None:
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    assert cpu_s(int(child.stdout)) == 0.0
    assert pss_mb(int(child.stdout)) == 0.0


def test_a_core_with_work_is_busy() -> None:
    core = min(os.sched_getaffinity(0))
    began_s, before_s = time.monotonic(), busy_s(core)
    with pinned(core):
        while time.monotonic() < began_s + 0.2:
            pass
    # In hundredths, at both ends.
    assert busy_s(core) - before_s > 0.1
    assert busy_s(10_000) == 0.0
