"""Nothing looks complete before it is: kills, locks, a full disk, changed files."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.core.errors import ModelStoreError
from cluster.models import landing
from cluster.models.hub import HubSettings
from cluster.models.landing import model_lock
from cluster.models.store import ModelStore

KILLED_AT_STAGE = """
import os, signal, sys
from pathlib import Path
from cluster.models.hub import HubSettings
from cluster.models.store import ModelStore

def progress(stage, done_bytes, total_bytes):
    if stage == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

ModelStore(Path(sys.argv[1]), settings=HubSettings()).pull("tiny", progress=progress)
"""
KILLED_AT_SYNC = """
import os, signal, sys
from pathlib import Path
from cluster.models.hub import HubSettings
from cluster.models.store import ModelStore

left = int(sys.argv[2])
sync = os.fsync
def counted(descriptor):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    sync(descriptor)
os.fsync = counted
ModelStore(Path(sys.argv[1]), settings=HubSettings()).pull("tiny")
"""
SYNCS_OF_A_PULL = 10  # weights written, six files, manifest, folder, then the parent after the rename


def run(script: str, *arguments: str) -> int:
    return subprocess.run([sys.executable, "-c", script, *arguments], check=False, timeout=60).returncode


def assert_absent_then_pullable(store: ModelStore) -> None:
    with pytest.raises(ModelStoreError, match="longreach models pull tiny"):
        store.path("tiny")
    assert not any(status.complete for status in store.list())
    path = store.pull("tiny")
    assert store.verify("tiny") == path
    assert not list((store.root / landing.PARTIAL_NAME).iterdir())


@pytest.mark.parametrize("stage", ["generating", "hashing", "landing"])
def test_killed_at_a_stage(store: ModelStore, stage: str) -> None:
    assert run(KILLED_AT_STAGE, str(store.root), stage) == -signal.SIGKILL
    assert next(status for status in store.list() if status.card.id == "tiny").partial_bytes > 0
    assert_absent_then_pullable(store)


@pytest.mark.parametrize("syncs", range(SYNCS_OF_A_PULL - 1))
def test_killed_at_any_step_of_the_landing(store: ModelStore, syncs: int) -> None:
    assert run(KILLED_AT_SYNC, str(store.root), str(syncs)) == -signal.SIGKILL
    assert_absent_then_pullable(store)


def test_killed_after_the_rename_is_complete(store: ModelStore) -> None:
    assert run(KILLED_AT_SYNC, str(store.root), str(SYNCS_OF_A_PULL - 1)) == -signal.SIGKILL
    store.verify("tiny")
    assert store.remove("tiny") > 0
    assert store.list()[1].partial_bytes == 0


def test_a_file_cut_short_makes_the_model_absent(store: ModelStore) -> None:
    path = store.pull("tiny")
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert_absent_then_pullable(store)


def test_a_file_changed_in_place_is_found_by_verify(store: ModelStore) -> None:
    path = store.pull("tiny")
    weights = bytearray((path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (path / "model.safetensors").write_bytes(weights)
    assert store.path("tiny") == path
    with pytest.raises(ModelStoreError, match=r"model\.safetensors is not what its manifest says"):
        store.verify("tiny")


def pull_in_process(root: Path, ready: multiprocessing.synchronize.Event, stages: multiprocessing.Queue[str]) -> None:
    def progress(stage: str, done_bytes: int, total_bytes: int | None) -> None:
        stages.put(stage)
        ready.set()

    ModelStore(root, settings=HubSettings()).pull("tiny", progress=progress)
    stages.put("done")


def test_a_second_pull_waits_and_finds_it_complete(store: ModelStore, tmp_path: Path, tiny_folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    waiting = context.Event()
    stages: multiprocessing.Queue[str] = context.Queue()
    finished = ModelStore(tmp_path / "other", settings=HubSettings())
    finished.pull("tiny")
    with model_lock(store.root, "tiny", lambda *_: None):
        process = context.Process(target=pull_in_process, args=(store.root, waiting, stages))
        process.start()
        assert waiting.wait(30)
        assert process.is_alive()
        # What the holder of the lock would bring, while the other waits.
        shutil.copytree(finished.root / "tiny", store.root / "tiny")
    process.join(30)
    assert [stages.get(timeout=5), stages.get(timeout=5)] == ["waiting for another process", "done"]
    assert process.exitcode == 0


def test_a_full_disk_is_said_before_anything_is_written(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(ModelStoreError, match=r"0\.00 GB free, 0\.27 GB are needed") as caught:
        store.pull("tiny")
    assert str(store.root) in str(caught.value)
    assert not (store.root / "tiny").exists()
