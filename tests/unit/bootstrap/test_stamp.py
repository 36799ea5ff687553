"""The stamp: an environment counts as complete only when it is, and when it is the wanted one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cluster.bootstrap.stamp import discard_broken_packages, drop_stamp, read_stamp, wanted_stamp


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "cpu.txt").write_text("a==1\n")
    (tmp_path / "locks" / "gpu.txt").write_text("a==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / ".venv").mkdir()
    return tmp_path


def test_written_stamp_is_found_again(root: Path) -> None:
    stamp = wanted_stamp(root, "cpu")
    assert read_stamp(root / ".venv") is None
    stamp.write(root / ".venv")
    assert read_stamp(root / ".venv") == stamp == wanted_stamp(root, "cpu")
    drop_stamp(root / ".venv")
    assert read_stamp(root / ".venv") is None


def test_stamp_depends_on_lock_project_and_accelerator(root: Path) -> None:
    before = wanted_stamp(root, "cpu")
    assert wanted_stamp(root, "gpu") != before
    (root / "locks" / "cpu.txt").write_text("a==2\n")
    after_lock = wanted_stamp(root, "cpu")
    assert after_lock != before
    (root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert wanted_stamp(root, "cpu") != after_lock


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": "x"}'])
def test_damaged_stamp_counts_as_none(root: Path, text: str) -> None:
    (root / ".venv" / "longreach-stamp.json").write_text(text)
    assert read_stamp(root / ".venv") is None


def install(site: Path, name: str) -> Path:
    """A package as pip leaves it."""
    module = site / f"{name}.py"
    module.write_text("x = 1\n")
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: x\n")
    digest = hashlib.sha256(module.read_bytes()).hexdigest()
    (info / "RECORD").write_text(f"{name}.py,sha256={digest},{module.stat().st_size}\n{info.name}/RECORD,,\n")
    return info


def test_whole_packages_are_kept(tmp_path: Path) -> None:
    info = install(tmp_path, "whole")
    assert discard_broken_packages(tmp_path) == ()
    assert info.exists()


def test_half_written_packages_are_forgotten(tmp_path: Path) -> None:
    (install(tmp_path, "norecord") / "RECORD").unlink()
    install(tmp_path, "missing")
    (tmp_path / "missing.py").unlink()
    install(tmp_path, "short")
    (tmp_path / "short.py").write_text("")
    (tmp_path / "~eplaced").mkdir()
    assert discard_broken_packages(tmp_path) == ("missing-1.0", "norecord-1.0", "short-1.0")
    assert not list(tmp_path.glob("*.dist-info"))
    assert not (tmp_path / "~eplaced").exists()
