"""Orphaned engine processes, with real processes: what carries a dead owner's mark is ended, nothing else.

The mark has another name here, so that engines which really run on this machine are never looked at.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from cluster.engine import orphans

MARK = f"LONGREACH_TEST_OWNER_{os.getpid()}"
SCOPE = "c1@/run/c1"
RENAMED = """
import sys
import setproctitle
setproctitle.setproctitle("VLLM::EngineCore")
print("renamed", flush=True)
sys.stdin.read()
"""
SPAWNED = """
import multiprocessing, os, signal, sys

def run(is_first_changed, said):
    if is_first_changed:
        with open("/proc/self/environ", "rb") as environ:
            os.environ[environ.read().partition(b"=")[0].decode()] = "changed"
    import setproctitle
    setproctitle.setproctitle("VLLM::EngineCore")
    said.send(os.getpid())
    signal.pause()  # multiprocessing has closed its standard input

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=run, args=(sys.argv[1] == "changed", there))
    child.start()
    print(here.recv(), flush=True)
    child.join()
"""


class Spawn(Protocol):
    """Starts a process that waits, marked as `owner`'s where one is named."""

    def __call__(self, owner: str | None = None, *, scope: str = SCOPE) -> psutil.Process: ...


@pytest.fixture(autouse=True)
def own_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "OWNER_VARIABLE", MARK)
    monkeypatch.delenv("SPT_NOENV", raising=False)
    monkeypatch.setenv(MARK, "")  # so that whatever a test sets is taken back
    monkeypatch.delenv(MARK)


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    started: list[subprocess.Popen[bytes]] = []

    def made(owner: str | None = None, *, scope: str = SCOPE) -> psutil.Process:
        env = dict(os.environ) | ({MARK: f"{scope}:{owner}"} if owner is not None else {})
        process = subprocess.Popen(["cat"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        started.append(process)
        # Popen returns before the kernel has laid out the new environment; an echo comes after it.
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        assert process.stdout.read(1) == b"x"
        return psutil.Process(process.pid)

    yield made
    for process in started:
        with process:
            process.kill()


def identity(process: psutil.Process) -> str:
    return orphans.identity(process.pid)


def dead_owner() -> str:
    with subprocess.Popen(["sleep", "60"]) as process:
        owner = identity(psutil.Process(process.pid))
        process.kill()
    return owner


def test_a_dead_owners_processes_are_ended(spawn: Spawn) -> None:
    owner = dead_owner()
    engine, worker = spawn(owner), spawn(owner)
    assert sorted(orphans.reap_orphans(SCOPE)) == sorted([engine.pid, worker.pid])
    assert not engine.is_running()
    assert not worker.is_running()


def test_a_living_owners_processes_survive(spawn: Spawn) -> None:
    engine = spawn(identity(spawn()))
    assert orphans.reap_orphans(SCOPE) == []
    assert engine.is_running()


def test_unmarked_processes_survive(spawn: Spawn) -> None:
    unmarked = spawn()
    spawn(dead_owner())
    assert unmarked.pid not in orphans.reap_orphans(SCOPE)
    assert unmarked.is_running()


def test_another_clusters_processes_are_none_of_ours(spawn: Spawn) -> None:
    theirs = spawn(dead_owner(), scope="c2@/run/c2")
    assert orphans.reap_orphans(SCOPE) == []
    assert theirs.is_running()


def test_a_mark_of_another_form_belongs_to_nobody(spawn: Spawn) -> None:
    """A replica of another version must not be judged by what this one does not understand."""
    theirs = spawn("1", scope="28848:444516")
    assert orphans.reap_orphans(SCOPE) == []
    assert theirs.is_running()


def test_a_zombie_owner_is_dead(spawn: Spawn) -> None:
    owner = spawn()
    engine = spawn(identity(owner))
    owner.kill()
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    assert orphans.reap_orphans(SCOPE) == [engine.pid]


def test_a_reused_pid_is_told_apart(spawn: Spawn) -> None:
    living = spawn()
    engine = spawn(f"{living.pid}:1")
    assert orphans.reap_orphans(SCOPE) == [engine.pid]
    assert living.is_running()


@pytest.mark.parametrize("owner", ["", "x", "12x:1", ":", "-1:0"])
def test_a_broken_mark_has_no_living_owner(spawn: Spawn, owner: str) -> None:
    engine = spawn(owner)
    assert orphans.reap_orphans(SCOPE) == [engine.pid]


def test_an_adjusted_clock_makes_no_orphans(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil's create_time is start plus boot time, and the kernel's boot time moves when the clock is set."""
    engine = spawn(identity(spawn()))
    booted_s = psutil.boot_time()
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: booted_s + 5)
    assert orphans.reap_orphans(SCOPE) == []
    assert engine.is_running()


def test_own_engine_processes_are_found_wherever_they_hang(spawn: Spawn) -> None:
    spawn()
    orphans.mark_own_engine(SCOPE)
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        grandchild = psutil.Process(int(child.stdout.readline()))
        assert {process.pid for process in orphans.engine_processes()} == {child.pid, grandchild.pid}
        assert orphans.reap_orphans(SCOPE) == []
        grandchild.kill()


def test_the_mark_survives_vllms_new_process_title() -> None:
    """setproctitle writes over the memory of the environment, unless it is told not to."""
    pytest.importorskip("setproctitle", reason="vLLM renames its processes only where it is installed")
    orphans.mark_own_engine(SCOPE)
    with subprocess.Popen(
        [sys.executable, "-c", RENAMED], env=dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"renamed\n"
        assert [found.pid for found in orphans.engine_processes()] == [process.pid]
        process.kill()


@pytest.mark.parametrize("first_variable", ["changed", "kept"])
def test_an_engine_is_told_from_helpers_with_and_without_its_title(first_variable: str, tmp_path: Path) -> None:
    """setproctitle gives up where the first variable of the environment was changed; the engine runs all the same."""
    pytest.importorskip("setproctitle", reason="vLLM renames its processes only where it is installed")
    orphans.mark_own_engine(SCOPE)
    script = tmp_path / "spawn.py"
    script.write_text(SPAWNED, encoding="utf-8")
    argv = [sys.executable, str(script), first_variable]
    with subprocess.Popen(argv, env=dict(os.environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        core = psutil.Process(int(parent.stdout.readline()))
        assert ("VLLM::EngineCore" in core.cmdline()[0]) == (first_variable == "kept")
        found = orphans.engine_processes()
        assert len(found) == 3, "the parent, its resource tracker, and what it spawned"
        assert [process.pid for process in found if orphans.runs_engine(process)] == [core.pid]
        core.kill()
        parent.kill()
