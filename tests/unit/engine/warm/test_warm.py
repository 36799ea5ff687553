"""The warm parent with real processes, and without vLLM: what is forked is what a spawned process would be."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from cluster.engine import orphans
from cluster.engine.warm.context import LOST, WarmContext
from cluster.engine.warm.handle import WarmParent, start_parent
from tests import warm_processes

MODULE = "tests.warm_processes"
GONE_S = 20.0


class Start(Protocol):
    """Starts a warm parent that imports what `preload` says, with these further variables."""

    def __call__(self, preload: str = "preload", *arguments: str, **variables: str) -> WarmParent: ...


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[WarmParent] = []

    def made(preload: str = "preload", *arguments: str, **variables: str) -> WarmParent:
        parent = start_parent(
            dict(os.environ) | variables,
            preload=f"{MODULE}:{preload}",
            arguments=arguments,
            adopt=warm_processes.adopt,
        )
        started.append(parent)
        return parent

    yield made
    for parent in started:
        parent.close()


def told(context: WarmContext, name: str = "Teller") -> dict[str, Any]:
    here, there = context.Pipe()
    process = context.Process(target=warm_processes.tell, args=(there,), name=name)
    process.start()
    found: dict[str, Any] = here.recv()
    process.join()
    assert process.exitcode == 0
    return found


def received_pid(context: WarmContext, target: Any) -> tuple[Any, Connection]:
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there,))
    process.start()
    return process, here


def gone(*pids: int) -> bool:
    processes = []
    for pid in pids:
        try:
            processes.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, timeout=GONE_S)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_process_has_what_its_parent_imported_and_is_its_askers_child_to_multiprocessing(start: Start) -> None:
    parent = start("preload", "one", "two")
    found = told(WarmContext(parent.asking))
    assert found["loaded"] == ["one", "two"]
    assert found["ppid"] == parent.pid
    assert found["parent"] == os.getpid()
    assert found["name"] == "Teller"


def test_the_environment_is_that_of_the_asker_at_that_moment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGREACH_TEST_GONE", "1")
    parent = start(LONGREACH_TEST_OF_THE_PARENT="1")
    monkeypatch.delenv("LONGREACH_TEST_GONE")
    monkeypatch.setenv("LONGREACH_TEST_NEW", "2")
    found = told(WarmContext(parent.asking))["environment"]
    assert found == dict(os.environ)


def test_a_process_runs_on_its_askers_cores(start: Start) -> None:
    parent = start()
    cores = os.sched_getaffinity(0)
    psutil.Process(parent.pid).cpu_affinity([min(cores)])
    assert told(WarmContext(parent.asking))["cores"] == cores


def test_a_worker_keeps_the_cores_that_the_parents_openmp_is_bound_to(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = min(os.sched_getaffinity(0))
    parent = start(GOMP_CPU_AFFINITY=str(first))
    psutil.Process(parent.pid).cpu_affinity([first])
    monkeypatch.setenv("GOMP_CPU_AFFINITY", str(first))
    assert told(WarmContext(parent.asking))["cores"] == {first}


def test_the_replicas_main_program_is_not_run_again(start: Start) -> None:
    """Spawning would, and Ray's takes seconds."""
    assert told(WarmContext(start().asking))["main"] is None


def test_descriptors_do_not_pile_up(start: Start) -> None:
    """Neither here nor in the parent, whose every child would inherit them."""
    context = WarmContext(start().asking)
    told(context)
    here = len(list(Path("/proc/self/fd").iterdir()))
    first = told(context)["descriptors"]
    for _ in range(3):
        last = told(context)["descriptors"]
    assert last == first
    assert len(list(Path("/proc/self/fd").iterdir())) == here


@pytest.mark.parametrize(
    ("target", "arguments", "code"),
    [(warm_processes.exit_with, (0,), 0), (warm_processes.exit_with, (7,), 7), (warm_processes.raise_an_error, (), 1)],
)
def test_exit_codes_arrive(start: Start, target: Any, arguments: tuple[int, ...], code: int) -> None:
    process = WarmContext(start().asking).Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == code


def test_a_killed_process_is_told_by_its_signal(start: Start) -> None:
    process, here = received_pid(WarmContext(start().asking), warm_processes.wait_for_ever)
    assert here.recv() == process.pid
    assert process.is_alive()
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_locks_and_queues_cross(start: Start) -> None:
    context = WarmContext(start().asking)
    lock, queue = context.Lock(), context.Queue()
    process = context.Process(target=warm_processes.hold, args=(lock, queue))
    with lock:
        process.start()
        assert process.is_alive()
    assert queue.get(timeout=GONE_S) == process.pid
    process.join()


def test_a_childs_child_comes_from_the_parent_too(start: Start) -> None:
    parent = start()
    _, here = received_pid(WarmContext(parent.asking), warm_processes.have_a_child)
    pids = {here.recv(), here.recv()}
    assert {psutil.Process(pid).ppid() for pid in pids} == {parent.pid}
    parent.close()
    assert gone(parent.pid, *pids)


def test_the_parent_killed_takes_its_children_along(start: Start) -> None:
    parent = start()
    process, here = received_pid(WarmContext(parent.asking), warm_processes.wait_for_ever)
    here.recv()
    os.kill(parent.pid, signal.SIGKILL)
    process.join(GONE_S)
    assert process.exitcode == LOST
    assert gone(process.pid)


def test_a_killed_replica_leaves_nothing() -> None:
    """`kill -9`: neither the warm parent, nor what it forked, nor what that had forked."""
    code = f"from {MODULE} import replica; replica('{MODULE}:preload')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 3
        owner = orphans.identity(process.pid)
        marked = {found.pid: found for found, scope, of in orphans._marked() if scope == "tests@warm" and of == owner}
        assert set(pids) <= marked.keys(), "the mark is how a replica finds its engine"
        assert {pid for pid in pids if orphans.runs_engine(marked[pid])} == set(pids[1:])
        process.kill()
        process.wait()
        assert gone(*pids)


@pytest.mark.parametrize("preload", ["fail", "start_a_thread"])
def test_without_a_parent_processes_are_spawned(start: Start, preload: str, caplog: pytest.LogCaptureFixture) -> None:
    context = WarmContext(start(preload).asking)
    with caplog.at_level(logging.WARNING, logger="longreach.engine"):
        found = told(context)
    assert found["ppid"] == os.getpid()
    assert "slower" in caplog.text


def test_what_a_fork_cannot_change_is_spawned(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = start()
    monkeypatch.setenv("GOMP_CPU_AFFINITY", "0")
    found = told(WarmContext(parent.asking))
    assert found["ppid"] == os.getpid()
    assert found["environment"]["GOMP_CPU_AFFINITY"] == "0"


def test_a_killed_replicas_shared_memory_is_removed() -> None:
    """Nobody else can: its engine is killed before it could, and multiprocessing's tracker does not know of it."""
    code = f"from {MODULE} import replica; replica('{MODULE}:preload', 'share_memory')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        parent, name, child = process.stdout.readline().split()
        assert Path("/dev/shm", name).exists()
        # As Ray does to what a dead worker leaves in its group, which the warm parent is not in.
        assert os.getpgid(int(parent)) == os.getpgid(int(child)) != os.getpgid(process.pid)
        assert os.getsid(int(parent)) == os.getsid(process.pid)
        process.kill()
        process.wait()
        assert gone(int(parent), int(child))
        assert not Path("/dev/shm", name).exists()


def test_close_twice(start: Start) -> None:
    parent = start()
    parent.close()
    parent.close()
    assert gone(parent.pid)
