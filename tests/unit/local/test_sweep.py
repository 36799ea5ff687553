"""Ending a cluster's processes, and only those; with real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path

import psutil
import pytest

from cluster.local.journal import Journal, Phase, StartedProcess, read_journal
from cluster.local.launch import marked, start
from cluster.local.rundir import RunDir
from cluster.local.sweep import members, sweep
from cluster.local.teardown import tear_down
from cluster.shared_memory import remove_shared_memory, shared_memory_of

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
"""The id that was given last; the next one is free to choose for root."""
DAEMONIZING = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)
os.wait()
print("detached", flush=True)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
RENAMED = """
import setproctitle, time
setproctitle.setproctitle("ray::" + "x" * 4000)
print("renamed", flush=True)
time.sleep(60)
"""
HOLDING_MEMORY = """
import time
from multiprocessing import shared_memory
block = shared_memory.SharedMemory(create=True, size=4096)
print(block.name, flush=True)
time.sleep(60)
"""

CHILD = """
import subprocess, time
print(subprocess.Popen(["sleep", "60"], env={env}, stdout=subprocess.DEVNULL, start_new_session=True).pid, flush=True)
time.sleep(60)
"""
MAPPING_FILES = """
import mmap, time
files = [open(name, "r+b") for name in {files}]
maps = [mmap.mmap(file.fileno(), 0, access=access) for file in files for access in (mmap.ACCESS_READ, mmap.ACCESS_COPY)]
print("mapped", flush=True)
time.sleep(60)
"""


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[RunDir]:
    found = RunDir(root=tmp_path / "cluster")
    found.root.mkdir()
    yield found
    for process in members(found.root):
        process.kill()


def spawn(run_dir: RunDir, code: str) -> tuple[subprocess.Popen[bytes], str]:
    """A marked process that has said its first line."""
    env = marked(os.environ, run_dir=run_dir, run="r1")
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    return process, process.stdout.readline().decode().strip()


@contextlib.contextmanager
def foreign() -> Iterator[psutil.Process]:
    """A process that belongs to nobody here."""
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "LONGREACH_RUN_DIR": "/elsewhere"}) as process:
        yield psutil.Process(process.pid)
        process.kill()


def test_only_marked_processes_are_ended(run_dir: RunDir) -> None:
    with foreign() as other:
        process, _ = spawn(run_dir, "print('up', flush=True); import time; time.sleep(60)")
        assert [found.pid for found in members(run_dir.root)] == [process.pid]
        assert sweep(run_dir.root, grace_s=5) == []
        assert not psutil.pid_exists(process.pid)
        assert other.is_running()


def test_grandchild_that_daemonized_goes_too(run_dir: RunDir) -> None:
    process, said = spawn(run_dir, DAEMONIZING)
    assert said == "detached"
    process.wait(timeout=5)
    (orphan,) = members(run_dir.root)
    assert orphan.pid != process.pid
    assert sweep(run_dir.root, grace_s=5) == []
    assert not orphan.is_running()


def test_run_folder_whose_name_begins_alike_is_another(run_dir: RunDir, tmp_path: Path) -> None:
    spawn(run_dir, "print('up', flush=True); import time; time.sleep(60)")
    assert members(tmp_path / "clus") == []


def test_child_that_replaced_its_environment_goes_too(run_dir: RunDir) -> None:
    process, pid = spawn(run_dir, CHILD.format(env="{}"))
    assert {found.pid for found in members(run_dir.root)} == {process.pid, int(pid)}


def test_another_cluster_below_a_process_of_ours_is_left_alone(run_dir: RunDir) -> None:
    """Somebody ran `longreach up` for it in a terminal, a notebook or a job that this cluster started."""
    process, pid = spawn(run_dir, CHILD.format(env="{'LONGREACH_RUN_DIR': '/elsewhere'}"))
    other = psutil.Process(int(pid))
    try:
        assert [found.pid for found in members(run_dir.root)] == [process.pid]
        assert sweep(run_dir.root, grace_s=5) == []
        assert other.is_running()
    finally:
        other.kill()


def test_same_folder_in_a_container_is_another(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's processes are seen from outside, and its home has the same path as ours."""
    process, _ = spawn(run_dir, "print('up', flush=True); import time; time.sleep(60)")
    elsewhere = os.stat_result((0,) * 10)
    real = os.stat

    def stat(path: str | Path, *args: object, **options: object) -> os.stat_result:
        is_root_of_it = str(path) == f"/proc/{process.pid}/root"
        return elsewhere if is_root_of_it else real(path, *args, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", stat)
        assert members(run_dir.root) == []
    assert [found.pid for found in members(run_dir.root)] == [process.pid]


def test_deaf_process_is_killed(run_dir: RunDir) -> None:
    process, _ = spawn(run_dir, STUBBORN)
    assert sweep(run_dir.root, grace_s=0.2) == []
    assert not psutil.pid_exists(process.pid)


def test_stopped_process_is_ended(run_dir: RunDir) -> None:
    process, _ = spawn(run_dir, "print('up', flush=True); import time; time.sleep(60)")
    process.send_signal(signal.SIGSTOP)
    assert sweep(run_dir.root, grace_s=2) == []
    assert not psutil.pid_exists(process.pid)


def test_process_that_renamed_itself_is_still_known(run_dir: RunDir) -> None:
    process, said = spawn(run_dir, RENAMED)
    assert said == "renamed"
    assert [found.pid for found in members(run_dir.root)] == [process.pid]


def test_shared_memory_of_killed_processes_is_removed(run_dir: RunDir) -> None:
    kept = shared_memory.SharedMemory(create=True, size=4096)
    try:
        process, name = spawn(run_dir, HOLDING_MEMORY)
        file = Path("/dev/shm") / name
        found = shared_memory_of(members(run_dir.root))
        assert file in found
        assert remove_shared_memory({file}) == [], "somebody still uses it"
        process.kill()
        process.wait()
        remove_shared_memory(found)
        assert not file.exists()
        assert (Path("/dev/shm") / kept.name).exists()
    finally:
        kept.close()
        kept.unlink()


def test_files_in_shared_memory_are_not_the_clusters_because_it_read_them(run_dir: RunDir) -> None:
    """Models are kept there, for speed: weights are mapped read-only or privately, and are never ours to delete."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="longreach-test-") as folder:
        files = [Path(folder, "model.safetensors"), Path(f"{folder}-weights.bin")]
        for file in files:
            file.write_bytes(b"w" * 4096)
        try:
            process, _ = spawn(run_dir, MAPPING_FILES.format(files=[str(file) for file in files]))
            assert shared_memory_of(members(run_dir.root)) == set()
            process.kill()
            process.wait()
            assert tear_down(run_dir).shared_memory == ()
            assert all(file.exists() for file in files)
        finally:
            files[1].unlink()


def test_shared_folders_below_shared_memory_stay(run_dir: RunDir) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="longreach-test-") as folder:
        file = Path(folder, "cache")
        file.write_bytes(b"c" * 4096)
        spawn(run_dir, MAPPING_FILES.replace("ACCESS_COPY", "ACCESS_WRITE").format(files=[str(file)]))
        assert shared_memory_of(members(run_dir.root)) == set()


@pytest.mark.alone
@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason=f"{LAST_PID} cannot be written: it takes root")
def test_a_process_with_the_id_of_an_ended_one_is_found(run_dir: RunDir) -> None:
    run_dir.prepare()
    env = marked(os.environ, run_dir=run_dir, run="r1")
    with subprocess.Popen(("sleep", "60")) as ended:
        members(run_dir.root)
        ended.kill()
    began_s = time.monotonic()
    found: list[list[int]] = []
    # The kernel tells starts apart by the tick, and another process may take the id first.
    while not found and time.monotonic() - began_s < 30:
        LAST_PID.write_text(str(ended.pid - 1), encoding="ascii")
        with subprocess.Popen(("sleep", "60"), env=env) as process:
            if process.pid == ended.pid:
                found = [[each.pid for each in members(run_dir.root)] for _ in range(2)]
            process.kill()
    assert found == [[ended.pid], [ended.pid]]


def test_started_process_is_in_the_journal_and_outlives_nothing(run_dir: RunDir) -> None:
    run_dir.prepare()
    journal = Journal(run="r1", phase=Phase.STARTING, source="x.yaml")
    env = marked(os.environ, run_dir=run_dir, run="r1")
    journal = start("gateway", ("sleep", "60"), env, run_dir=run_dir, journal=journal)
    journal = start("redis", ("sleep", "60"), env, run_dir=run_dir, journal=journal)
    found = read_journal(run_dir.journal)
    assert found == journal
    gateway = journal.process("gateway")
    assert gateway is not None
    assert gateway.is_alive()
    assert os.getsid(gateway.pid) == gateway.pid, "Ctrl-C at the terminal must not reach it"
    ended = tear_down(run_dir)
    assert ended.processes == 2
    assert not gateway.is_alive()
    assert sorted(path.name for path in run_dir.root.iterdir()) == ["logs"]
    assert not run_dir.ray.exists()
    assert tear_down(run_dir).processes == 0, "twice is fine"


def test_reused_pid_is_not_taken_for_ours(run_dir: RunDir) -> None:
    run_dir.prepare()
    with foreign() as other:
        entry = Journal(run="r", phase=Phase.RUNNING, source="x").with_process(
            StartedProcess(name="gateway", pid=other.pid, start_ticks=1)
        )
        entry.save(run_dir.journal)
        tear_down(run_dir)
        assert other.is_running()
