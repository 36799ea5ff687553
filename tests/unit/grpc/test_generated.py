"""The committed modules are what the pinned compiler makes of the .proto files."""

from __future__ import annotations

from pathlib import Path

from services.grpc.generate import GENERATED, generate


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that is committed, by its path below `folder`."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_compiling_gives_the_committed_files(tmp_path: Path) -> None:
    generate(tmp_path)
    made, committed = contents(tmp_path), contents(GENERATED)
    differing = sorted(name for name in made.keys() | committed.keys() if made.get(name) != committed.get(name))
    assert differing == [], "run `make proto` and commit what it writes; a module without a .proto file goes by hand"
