from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cluster.core.errors import SetupError
from loadtest.bench import native


def test_without_a_compiler_the_error_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(SetupError, match="no C compiler") as caught:
        native.build(tmp_path)
    assert "gcc" in caught.value.remedy


def test_a_compiler_that_refuses_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'stdio.h: No such file' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _name: str(compiler))
    with pytest.raises(SetupError, match=r"stdio\.h: No such file"):
        native.build(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_programs_are_compiled_once_for_each_state_of_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    compiler = tmp_path / "cc"
    # Like a compiler: writes what -o names.
    compiler.write_text(f'#!/bin/sh\necho x >>{calls}\nwhile [ "$1" != -o ]; do shift; done\ntouch "$2"\n')
    compiler.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _name: str(compiler))
    first = native.build(tmp_path / "cache")
    assert native.build(tmp_path / "cache") == first
    assert len(calls.read_text().splitlines()) == len(native.PROGRAMS)
    changed = tmp_path / "native"
    shutil.copytree(native.SOURCES, changed)
    (changed / "native.h").write_text("// another\n")
    monkeypatch.setattr(native, "SOURCES", changed)
    assert native.build(tmp_path / "cache") != first
