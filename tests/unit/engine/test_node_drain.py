"""preStop hooks: whom they wait for, whom not, and until when."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from cluster.core.drain import head_grace_s, head_limit_s, worker_grace_s, worker_hook_s
from cluster.core.lease import Lease, PoolName, ReplicaId, ReplicaState
from cluster.engine import drain_folder, node_drain, orphans
from cluster.engine.drain_folder import DrainFolder, ReplicaDrain, ReplicaNote
from cluster.environment import DRAIN_DIR_VARIABLE, read_environment
from tests.cluster_harness import until

LIMIT_S = 30.0
SHORT_S = 0.2


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_drain, "POLL_S", 0.01)
    monkeypatch.setattr(node_drain, "NOTICE_S", 0.0)
    monkeypatch.setattr(node_drain, "HEAD_NOTICE_S", SHORT_S)


def lease(name: str, *, draining: bool = False, ray_cluster: str = "old", is_drained: bool = False) -> Lease:
    return Lease(
        replica_id=ReplicaId(name),
        pool=PoolName("p"),
        model="m",
        url="http://x",
        state=ReplicaState.DRAINING if draining else ReplicaState.READY,
        context_tokens=100,
        running=0,
        waiting=0,
        kv_use_ratio=0.0,
        step_age_s=0.0,
        ray_cluster=ray_cluster,
        is_drained=is_drained,
    )


async def as_head(*readings: Sequence[Lease] | Exception, limit_s: float = LIMIT_S) -> tuple[bool, str, int]:
    """Whether it ended before the limit, its last words, and how many of `readings` it took; the last one stays."""
    taken = 0
    said: list[str] = []

    async def leases() -> Sequence[Lease]:
        nonlocal taken
        reading = readings[min(taken, len(readings) - 1)]
        taken += 1
        if isinstance(reading, Exception):
            raise reading
        return reading

    is_over = await node_drain.wait_as_head(leases, ray_cluster="old", limit_s=limit_s, say=said.append)
    return is_over, said[-1], taken


async def test_the_head_waits_until_its_replicas_are_gone() -> None:
    draining = [lease("1", draining=True), lease("new", ray_cluster="new")]
    is_over, said, taken = await as_head(*[draining] * 50, [lease("new", ray_cluster="new")])
    assert (is_over, said.startswith("no replica drains, 0 stay")) == (True, True)
    assert taken > 50


async def test_the_head_waits_for_the_slowest_to_begin() -> None:
    ready, draining = [lease("1")], [lease("1", draining=True)]
    is_over, said, taken = await as_head(ready, *[draining] * 60, [])
    assert (is_over, said.startswith("no replica drains, 0 stay")) == (True, True)
    assert taken > 60


async def test_a_lease_that_lapses_for_a_moment_is_no_end() -> None:
    draining = [lease("1", draining=True)]
    readings = [*[draining] * 5, *[[]] * 5] * 8
    is_over, _, taken = await as_head(*readings, [])
    assert is_over
    assert taken > len(readings)


async def test_a_head_that_leaves_alone_is_not_kept() -> None:
    # What an operator took out of use is not on its way out.
    is_over, said, _ = await as_head([lease("1"), lease("2", draining=True, is_drained=True)])
    assert (is_over, said.startswith("no replica drains, 2 stay")) == (True, True)


async def test_a_replica_that_an_operator_drained_may_still_have_streams() -> None:
    marked = replace(lease("1", draining=True, is_drained=True), running=1)
    is_over, said, _ = await as_head([marked], limit_s=1)
    assert (is_over, said) == (False, "not over after 1 s: 1 of 1 replicas drain")


async def test_replicas_of_before_there_was_a_name_count() -> None:
    is_over, said, _ = await as_head([lease("1", draining=True, ray_cluster="")], limit_s=1)
    assert (is_over, said) == (False, "not over after 1 s: 1 of 1 replicas drain")


async def test_a_store_that_is_away_says_nothing() -> None:
    away = RedisConnectionError("refused")
    is_over, said, _ = await as_head([], away, limit_s=1)
    assert (is_over, said) == (False, "not over after 1 s: the state store does not answer: refused")
    is_over, _, taken = await as_head(*[away] * 40, [])
    assert is_over
    assert taken > 40


async def as_worker(folder: DrainFolder, limit_s: float = LIMIT_S) -> tuple[bool, list[str]]:
    said: list[str] = []
    return await node_drain.drain_worker(folder, limit_s=limit_s, say=said.append), said


async def test_the_worker_waits_for_the_last_request(tmp_path: Path) -> None:
    path = tmp_path / "drain"
    replica = ReplicaDrain(path, "one")
    replica.tell(is_draining=False, in_flight=3)
    task = asyncio.create_task(as_worker(DrainFolder(path)))
    await until(replica.is_asked, timeout_s=LIMIT_S, what="the hook asks")
    for left in (3, 2, 1):
        replica.tell(is_draining=True, in_flight=left)
        await asyncio.sleep(0.05)
        assert not task.done()
    replica.tell(is_draining=True, in_flight=0)
    is_over, said = await asyncio.wait_for(task, LIMIT_S)
    assert is_over
    assert said[-1].startswith("1 replicas are drained")


async def test_the_worker_gives_up_at_its_limit(tmp_path: Path) -> None:
    replica = ReplicaDrain(tmp_path, "one")
    replica.tell(is_draining=True, in_flight=2)
    assert await as_worker(DrainFolder(tmp_path), limit_s=SHORT_S) == (
        False,
        ["still busy after 0.2 s: one has 2 in flight"],
    )
    replica.leave()
    assert await as_worker(DrainFolder(tmp_path)) == (True, [])


def test_the_killed_are_not_waited_for(tmp_path: Path) -> None:
    folder = DrainFolder(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = orphans.identity(process.pid)
        folder.tell(ReplicaNote(replica_id="one", process=owner, is_draining=True, in_flight=9))
        assert [note.in_flight for note in folder.notes()] == [9]
        assert not asyncio.run(as_worker(folder, limit_s=SHORT_S))[0]
        process.kill()
    assert asyncio.run(as_worker(folder)) == (True, [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["drain"]


async def test_a_hook_that_cannot_ask_waits_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    began_s = time.monotonic()
    is_over, said = await as_worker(DrainFolder(tmp_path / "file" / "drain"), limit_s=SHORT_S)
    assert not is_over
    assert said[0].startswith("the replicas cannot be asked, waiting 0.2 s instead")
    assert time.monotonic() - began_s >= SHORT_S


def test_the_sweep_of_a_dead_replica_spares_one_with_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, alive = DrainFolder(tmp_path), ReplicaDrain(tmp_path, "new")
    folder.tell(ReplicaNote(replica_id="old", process=f"{os.getpid()}:1", is_draining=True, in_flight=9))

    def while_it_looks(process: str) -> bool:
        alive.tell(is_draining=False, in_flight=0)
        return orphans.is_alive(process)

    monkeypatch.setattr(drain_folder, "is_alive", while_it_looks)
    folder.notes()
    assert [note.replica_id for note in folder.notes()] == ["new"]


@pytest.mark.parametrize("fault", ["open", "link", "owner"])
def test_a_folder_of_others_is_not_obeyed(tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "drain"
    own = DrainFolder(path)
    own.ask()
    replica = ReplicaDrain(path, "one")
    assert replica.is_asked()
    if fault == "open":
        path.chmod(0o777)
    elif fault == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif os.getuid() == 0:
        os.chown(path, 4242, -1)
    else:
        pytest.skip("only root can give a folder away")
    for _ in range(2):
        replica.tell(is_draining=False, in_flight=0)
    assert not replica.is_asked()
    assert own.notes() == ()
    assert caplog.text.count("is another user's, or open to others' writing") == 1
    with pytest.raises(PermissionError):
        own.ask()


def test_a_folder_that_inherits_its_group_is_fine(tmp_path: Path) -> None:
    """As below an emptyDir with fsGroup, whose set-group-ID bit goes on to what is made in it."""
    tmp_path.chmod(0o2777)
    folder = DrainFolder(tmp_path / "drain")
    folder.ask()
    assert folder.is_asked()
    assert (tmp_path / "drain").stat().st_mode & 0o7777 == 0o2700


def test_a_container_that_starts_again_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = DrainFolder(tmp_path)
    assert not folder.is_asked()
    folder.ask()
    assert folder.is_asked()
    monkeypatch.setattr(drain_folder, "_container", lambda: "1:another start")
    assert not folder.is_asked()


def test_a_replica_serves_without_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    replica = ReplicaDrain(tmp_path / "file" / "drain", "one")
    for _ in range(3):
        replica.tell(is_draining=False, in_flight=0)
    replica.leave()
    assert not replica.is_asked()
    assert caplog.text.count("cannot be written") == 1


def test_the_program_finds_the_folder_by_its_variable(tmp_path: Path) -> None:
    ReplicaDrain(tmp_path, "one").tell(is_draining=True, in_flight=1)
    argv = [sys.executable, "-m", "cluster.engine.node_drain", "worker", "--limit-s", "0.5"]
    told = subprocess.run(
        argv, env={**os.environ, DRAIN_DIR_VARIABLE: str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert told.returncode == 1
    assert told.stderr == "node_drain: still busy after 0.5 s: one has 1 in flight\n"
    assert read_environment({}).drain_dir.parent == Path("/tmp")


def test_a_head_without_a_configuration_stays(tmp_path: Path) -> None:
    argv = ["head", "--config", str(tmp_path / "none.yaml"), "--limit-s", "0.01"]
    assert node_drain.main(argv) == 1


@pytest.mark.parametrize("drain_s", [0, 600, 86_400])
def test_grace_periods_leave_room_for_what_they_cover(drain_s: float) -> None:
    assert worker_hook_s(drain_s) > drain_s
    assert worker_grace_s(drain_s, ray_drain_s=30) >= worker_hook_s(drain_s) + 30
    assert head_limit_s(drain_s) > worker_grace_s(drain_s)
    assert head_grace_s(drain_s) > head_limit_s(drain_s)
