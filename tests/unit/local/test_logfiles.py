"""Finding logs, their ends, and following them across replicas."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.core.errors import SetupError
from cluster.local.logfiles import follow_logs, last_lines, log_files
from cluster.local.rundir import RunDir


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    found = RunDir(root=tmp_path)
    found.logs.mkdir()
    for name in ("gateway", "redis", "pool-short-aaa", "pool-short-bbb", "pool-very-long-ccc"):
        found.log(name).write_text(f"first of {name}\nlast of {name}\n")
    return found


def test_pools_have_a_file_for_each_replica(run_dir: RunDir) -> None:
    assert {path.name for path in log_files(run_dir, "short")} == {"pool-short-aaa.log", "pool-short-bbb.log"}
    assert [path.name for path in log_files(run_dir, "very-long")] == ["pool-very-long-ccc.log"]
    assert [path.name for path in log_files(run_dir, "gateway")] == ["gateway.log"]


def test_unknown_name_lists_what_there_is(run_dir: RunDir) -> None:
    with pytest.raises(SetupError, match="gateway, redis, short, very-long"):
        log_files(run_dir, "nobody")


def test_last_lines(run_dir: RunDir) -> None:
    assert last_lines(run_dir.log("gateway"), 1) == ["last of gateway"]
    assert last_lines(run_dir.log("gateway"), 0) == []
    assert len(last_lines(run_dir.log("gateway"), 9)) == 2


def test_following_sees_whole_lines_and_new_replicas(run_dir: RunDir) -> None:
    files = log_files(run_dir, "short")
    following = follow_logs(run_dir, "short", files)
    with files[0].open("a") as log:
        log.write("half")
    run_dir.log("pool-short-ddd").write_text("hello\n")
    path, line = next(following)
    assert (path.name, line) == ("pool-short-ddd.log", "hello")
    with files[0].open("a") as log:
        log.write(" and half\n")
    assert next(following) == (files[0], "half and half")
