"""Nothing looks complete before it is: kills, locks, a full disk, changed files."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cluster.core.errors import ModelStoreError
from cluster.models import landing
from cluster.models.hub import HubSettings
from cluster.models.landing import model_lock
from cluster.models.store import ModelStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.models.conftest import Killed

WAITING = """
import sys
from pathlib import Path
from cluster.models.hub import HubSettings
from cluster.models.store import ModelStore

def progress(stage, done_bytes, total_bytes):
    print(stage, flush=True)

ModelStore(Path(sys.argv[1]), settings=HubSettings()).pull("tiny", progress=progress)
print("done", flush=True)
"""
SYNCS_OF_A_PULL = 10  # weights written, six files, manifest, folder, then the parent after the rename


def pull_and_die_at_stage(store: ModelStore, stage: str, die: Callable[[], None]) -> None:
    def progress(at: str, done_bytes: int, total_bytes: int | None) -> None:
        if at == stage:
            die()

    store.pull("tiny", progress=progress)


def pull_and_die_at_sync(store: ModelStore, syncs: int, die: Callable[[], None]) -> None:
    left = syncs
    sync = os.fsync

    def counted(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            die()
        sync(descriptor)

    os.fsync = counted  # this process ends here
    store.pull("tiny")


def assert_absent_then_pullable(store: ModelStore) -> None:
    with pytest.raises(ModelStoreError, match="longreach models pull tiny"):
        store.path("tiny")
    assert not any(status.complete for status in store.list())
    path = store.pull("tiny")
    assert store.verify("tiny") == path
    assert not list((store.root / landing.PARTIAL_NAME).iterdir())


@pytest.mark.parametrize("stage", ["generating", "hashing", "landing"])
def test_killed_at_a_stage(store: ModelStore, killed: Killed, stage: str) -> None:
    assert killed(lambda die: pull_and_die_at_stage(store, stage, die))
    assert next(status for status in store.list() if status.card.id == "tiny").partial_bytes > 0
    assert_absent_then_pullable(store)


@pytest.mark.parametrize("syncs", range(SYNCS_OF_A_PULL - 1))
def test_killed_at_any_step_of_the_landing(store: ModelStore, killed: Killed, syncs: int) -> None:
    assert killed(lambda die: pull_and_die_at_sync(store, syncs, die))
    assert_absent_then_pullable(store)


def test_killed_after_the_rename_is_complete(store: ModelStore, killed: Killed) -> None:
    assert killed(lambda die: pull_and_die_at_sync(store, SYNCS_OF_A_PULL - 1, die))
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


def test_a_second_pull_waits_and_finds_it_complete(store: ModelStore, tmp_path: Path) -> None:
    finished = ModelStore(tmp_path / "other", settings=HubSettings())
    finished.pull("tiny")
    command = [sys.executable, "-c", WAITING, str(store.root)]
    with contextlib.ExitStack() as held:
        held.enter_context(model_lock(store.root, "tiny", lambda *_: None))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == "waiting for another process\n"
            # What the holder of the lock would bring, while the other waits.
            shutil.copytree(finished.root / "tiny", store.root / "tiny")
            assert second.poll() is None
            held.close()
            assert second.stdout.read() == "done\n"
    assert second.returncode == 0


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EACCES, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(store: ModelStore, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(landing.fcntl, "flock", refuse)
    with pytest.raises(
        ModelStoreError, match=r"cannot lock a file \(flock\).*\n  remedy: mount it with locks"
    ) as caught:
        store.pull("tiny")
    assert os.strerror(number) in str(caught.value)
    assert "disk's space" not in str(caught.value)


def test_a_full_disk_is_said_before_anything_is_written(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(ModelStoreError, match=r"0\.00 GB free, 0\.27 GB are needed") as caught:
        store.pull("tiny")
    assert str(store.root) in str(caught.value)
    assert not (store.root / "tiny").exists()
