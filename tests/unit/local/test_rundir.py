"""The run folder."""

from __future__ import annotations

from pathlib import Path

from cluster.local.journal import read_journal
from cluster.local.rundir import RunDir

UNIX_SOCKET_PATH_BYTES_MAX = 107
RAY_SOCKET = "session_2026-11-22_04-46-00_123456_1234567/sockets/plasma_store"


def test_rays_sockets_fit_however_deep_the_run_folder_is(tmp_path: Path) -> None:
    deep = RunDir(root=tmp_path / ("x" * 100) / ("y" * 100))
    assert len(str(deep.ray / RAY_SOCKET)) <= UNIX_SOCKET_PATH_BYTES_MAX
    assert deep.ray != RunDir(root=tmp_path).ray


def test_prepare_forgets_old_logs_and_clear_keeps_new_ones(tmp_path: Path) -> None:
    run_dir = RunDir(root=tmp_path / "c")
    run_dir.prepare()
    run_dir.log("old").write_text("x")
    run_dir.prepare()
    assert not run_dir.log("old").exists()
    run_dir.log("new").write_text("x")
    run_dir.config.write_text("x")
    run_dir.clear()
    assert run_dir.log("new").exists()
    assert not run_dir.config.exists()
    assert not run_dir.ray.exists()
    assert run_dir.root.stat().st_mode & 0o077 == 0


def test_damaged_journal_counts_as_none(tmp_path: Path) -> None:
    for text in ("", "[]", '{"processes": 3}', '{"run": "x", "processes": []}'):
        (tmp_path / "j").write_text(text)
        assert read_journal(tmp_path / "j") is None
