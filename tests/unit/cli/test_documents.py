"""Files and folders as context."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.cli import documents
from cluster.cli.documents import as_context, read_file, read_folder
from cluster.core.errors import SetupError


def test_folder_gives_text_in_order_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text("b = 1\n")
    (tmp_path / "a.md").write_text("# Ä\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.txt").write_text("c\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("secret\n")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "x.js").write_text("x\n")
    (tmp_path / "picture.bin").write_bytes(b"text\0binary")
    (tmp_path / "latin.txt").write_bytes(b"\xe4\xf6")
    (tmp_path / "huge.txt").write_text("x" * (documents.FOLDER_FILE_BYTES_MAX + 1))
    (tmp_path / "loop").symlink_to(tmp_path)
    found = read_folder(tmp_path)
    assert [document.name for document in found] == ["a.md", "b.py", "sub/c.txt"]
    assert '<document name="a.md">\n# Ä\n' in as_context(found)


def test_folder_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "FOLDER_BYTES_MAX", 10)
    (tmp_path / "a").write_text("123456")
    assert len(read_folder(tmp_path)) == 1
    (tmp_path / "b").write_text("123456")
    with pytest.raises(SetupError, match="more text than"):
        read_folder(tmp_path)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        read_file(tmp_path / "none")
    (tmp_path / "bin").write_bytes(b"\xff\xfe")
    with pytest.raises(SetupError, match="not a text file"):
        read_file(tmp_path / "bin")
    with pytest.raises(SetupError, match="not a folder"):
        read_folder(tmp_path / "bin")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SetupError, match="no text files"):
        read_folder(tmp_path / "empty")
