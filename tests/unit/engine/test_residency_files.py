"""Names by content, and the private folder of the sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from cluster.engine.residency import sockets
from cluster.engine.residency.content import adapter_digest, model_digest
from cluster.engine.residency.sockets import PATH_BYTES_MAX, make_event_sockets, sweep_event_sockets
from cluster.models.manifest import Manifest, describe_folder, write_manifest


def folder(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
        os.utime(path / name.replace("__", "."), (1, 1))
    return path


def manifest(path: Path, *, created_s: float) -> Path:
    files = describe_folder(path, lambda *_: None)
    made = Manifest(model_id="m", source="s", requested=None, revision="r", created_s=created_s, files=files)
    write_manifest(path, made)
    return path


FILES = {"config__json": "{}", "tokenizer__json": "{}", "model__safetensors": "1234"}


def test_models_are_named_by_what_they_are(tmp_path: Path) -> None:
    base = model_digest(folder(tmp_path / "a", **FILES))
    assert model_digest(folder(tmp_path / "b", **FILES)) == base
    assert model_digest(folder(tmp_path / "c", **FILES | {"tokenizer__json": "[]"})) != base
    assert model_digest(folder(tmp_path / "d", **FILES | {"model__safetensors": "12345"})) != base
    assert model_digest(folder(tmp_path / "e", **FILES, chat_template__jinja="x")) != base
    os.utime(tmp_path / "b" / "model.safetensors", (2, 2))
    assert model_digest(tmp_path / "b") != base, "other weights of the same size"


def test_a_manifest_names_a_model_on_every_machine(tmp_path: Path) -> None:
    first = manifest(folder(tmp_path / "a", **FILES), created_s=1)
    second = manifest(folder(tmp_path / "b", **FILES), created_s=2)
    os.utime(second / "model.safetensors", (2, 2))
    other = manifest(folder(tmp_path / "c", **FILES | {"model__safetensors": "4321"}), created_s=1)
    assert model_digest(first) == model_digest(second) != model_digest(other)


def test_adapters_are_named_by_their_content(tmp_path: Path) -> None:
    files = {"adapter_config__json": "{}", "adapter_model__safetensors": "1234"}
    first = adapter_digest(folder(tmp_path / "a", **files))
    second = folder(tmp_path / "b", **files)
    os.utime(second / "adapter_model.safetensors", (2, 2))
    assert adapter_digest(second) == first
    assert adapter_digest(folder(tmp_path / "c", **files | {"adapter_model__safetensors": "4321"})) != first
    with pytest.raises(OSError, match="nowhere"):
        adapter_digest(tmp_path / "nowhere")


def test_only_the_user_may_enter(tmp_path: Path) -> None:
    made = make_event_sockets(below=tmp_path)
    assert made.folder.stat().st_mode & 0o777 == 0o700
    assert {made.events, made.replay} == {f"ipc://{made.folder}/events", f"ipc://{made.folder}/replay"}
    made.remove()
    assert list(tmp_path.iterdir()) == []


def test_long_paths_are_avoided(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    made = make_event_sockets(below=deep)
    assert len(os.fsencode(made.folder / "events")) <= PATH_BYTES_MAX
    made.remove()


def test_what_killed_replicas_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starting, alive, dead, old = (make_event_sockets(below=tmp_path).folder for _ in range(4))
    (tmp_path / "another").mkdir()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(alive / "events"))
    listening.listen()
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(dead / "events"))
    os.utime(old, (1, 1))
    sweep_event_sockets(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {starting.name, alive.name, "another"}
    listening.close()
    monkeypatch.setattr(sockets, "STARTING_S", 0.0)
    sweep_event_sockets(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["another"]
