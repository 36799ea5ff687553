from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cluster.core.errors import ModelStoreError, SourceAwayError
from cluster.models.card import FolderSource, ObjectStoreSource
from cluster.models.hub import HubSettings
from cluster.models.manifest import MANIFEST_NAME
from cluster.models.object_store import open_object_store
from cluster.models.sources import parse_source
from cluster.models.store import ModelStore, default_root
from cluster.sockets import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.models.conftest import Stages


def test_default_root() -> None:
    assert default_root(Path("/home/a/.cache/longreach")) == Path("/home/a/.cache/longreach/models")


def test_an_empty_store_lists_the_catalog(store: ModelStore) -> None:
    statuses = store.list()
    assert [status.card.id for status in statuses][:2] == ["demo", "tiny"]
    assert not any(status.complete or status.size_bytes or status.partial_bytes for status in statuses)
    assert not store.root.exists()


def test_pull_list_path_remove(store: ModelStore, stages: Stages) -> None:
    seen, note = stages
    path = store.pull("tiny", progress=note)
    assert path == store.root / "tiny" / "generated-1"
    assert seen == ["generating", "hashing", "landing"]
    assert store.pull("tiny") == path == store.path("tiny")
    status = next(status for status in store.list() if status.card.id == "tiny")
    assert status.complete
    assert (status.path, status.revision) == (path, "generated-1")
    held = sum(file.stat().st_size for file in path.iterdir())
    assert status.size_bytes == held - (path / MANIFEST_NAME).stat().st_size
    assert store.remove("tiny") == held
    assert store.remove("tiny") == 0
    with pytest.raises(ModelStoreError, match="longreach models pull tiny"):
        store.path("tiny")


def test_resolve_of_a_catalog_id_needs_nothing_on_disk(store: ModelStore) -> None:
    assert store.resolve("demo").kv_bytes_per_token == 12_288


def test_a_folder_is_used_where_it_lies(store: ModelStore, tiny_folder: Path) -> None:
    text = str(tiny_folder)
    assert store.pull(text) == store.path(text) == tiny_folder
    card = store.resolve(text)
    assert card.source == FolderSource(path=text)
    assert card.context_tokens == 262_144
    assert not store.root.exists()
    with pytest.raises(ModelStoreError, match="your own folder"):
        store.remove(text)
    with pytest.raises(ModelStoreError, match="not a folder"):
        store.pull("./nowhere")


@pytest.mark.parametrize("text", ["nonsense", "a/b/c", "http://x/y", "", "../x/../..\0", "org/na me"])
def test_what_names_no_model_says_what_would(store: ModelStore, text: str) -> None:
    if text.startswith(".."):
        with pytest.raises((ModelStoreError, ValueError)):
            store.path(text)
        return
    with pytest.raises(ModelStoreError, match="catalog id"):
        store.path(text)


def test_a_generated_model_has_one_revision(store: ModelStore) -> None:
    with pytest.raises(ModelStoreError, match="only the revision generated-1"):
        store.pull("tiny", revision="2")


def test_a_model_copied_from_another_store_is_complete(store: ModelStore, tmp_path: Path, offline: HubSettings) -> None:
    store.pull("tiny")
    other = ModelStore(tmp_path / "other", settings=offline)
    shutil.copytree(store.root / "tiny", other.root / "tiny")
    assert other.verify("tiny") == other.root / "tiny" / "generated-1"


def test_a_model_of_another_versions_catalog_is_listed_and_removable_by_hand(store: ModelStore) -> None:
    path = store.pull("tiny")
    manifest = json.loads((path / MANIFEST_NAME).read_text())
    manifest["model_id"] = "once-in-the-catalog"
    shutil.copytree(path, store.root / "once-in-the-catalog" / "r1")
    (store.root / "once-in-the-catalog" / "r1" / MANIFEST_NAME).write_text(json.dumps(manifest))
    assert store.list()[-1].card.id == "once-in-the-catalog"


@pytest.mark.parametrize("garbage", [b"", b"{}", b"[1]", b'{"version": 1}', b'{"version": 2}', b"\xff"])
def test_a_broken_manifest_is_no_manifest(store: ModelStore, garbage: bytes) -> None:
    path = store.pull("tiny")
    (path / MANIFEST_NAME).write_bytes(garbage)
    with pytest.raises(ModelStoreError, match="not on this machine"):
        store.path("tiny")
    store.pull("tiny")
    store.verify("tiny")


def test_a_root_that_cannot_be_written_is_said(tmp_path: Path, offline: HubSettings) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelStoreError, match="cannot take tiny"):
        ModelStore(tmp_path / "file" / "models", settings=offline).pull("tiny")


def test_leftovers_of_another_revision_are_swept(store: ModelStore) -> None:
    stale = store.root / ".partial" / "tiny@generated-0" / "work"
    stale.mkdir(parents=True)
    (stale / "x").write_bytes(b"1")
    other = store.root / ".partial" / "demo@main"
    other.mkdir()
    store.pull("tiny")
    assert not stale.exists()
    assert other.exists()


class TestObjectStore:
    @pytest.fixture
    def bucket(self, tiny_folder: Path) -> Iterator[str]:
        fsspec = pytest.importorskip("fsspec")
        filesystem = fsspec.filesystem("memory")
        for file in tiny_folder.iterdir():
            filesystem.pipe_file(f"/bucket/tiny/{file.name}", file.read_bytes())
        filesystem.pipe_file("/bucket/tiny/run.py", b"raise SystemExit")
        yield "memory://bucket/tiny"
        filesystem.rm("/bucket", recursive=True)

    def test_copies_the_wanted_files(self, bucket: str, tmp_path: Path, tiny_folder: Path) -> None:
        files, work = tmp_path / "files", tmp_path / "work"
        files.mkdir()
        work.mkdir()
        fetch = open_object_store(bucket)
        content = (tiny_folder / "model.safetensors").read_bytes()
        (work / "model.safetensors").write_bytes(content[:1000])  # left by a killed copy
        fetch.into(files, work, lambda *_: None)
        assert {file.name for file in files.iterdir()} == {file.name for file in tiny_folder.iterdir()}
        assert (files / "model.safetensors").read_bytes() == content

    def test_a_manifest_in_the_bucket_is_checked(self, bucket: str, store: ModelStore, tmp_path: Path) -> None:
        import fsspec

        filesystem = fsspec.filesystem("memory")
        manifest = (store.pull("tiny") / MANIFEST_NAME).read_bytes()
        filesystem.pipe_file(f"/bucket/tiny/{MANIFEST_NAME}", manifest)
        filesystem.pipe_file("/bucket/tiny/config.json", b"{}")
        files, work = tmp_path / "files", tmp_path / "work"
        files.mkdir()
        work.mkdir()
        with pytest.raises(ModelStoreError, match=r"config\.json is not what its manifest says"):
            open_object_store(bucket).into(files, work, lambda *_: None)

    def test_a_missing_package_is_named(self, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
        with pytest.raises(ModelStoreError, match="pip install s3fs"):
            store.pull("s3://bucket/model")

    def test_addresses(self) -> None:
        assert parse_source("gs://bucket/a/b/") == ObjectStoreSource(url="gs://bucket/a/b")

    def test_one_that_is_away_and_one_without_the_folder_differ(self) -> None:
        with pytest.raises(SourceAwayError, match="cannot be listed"):
            open_object_store(f"http://127.0.0.1:{free_port()}/model")
        with pytest.raises(ModelStoreError, match="cannot be listed") as caught:
            open_object_store("memory://bucket/none")
        assert not isinstance(caught.value, SourceAwayError)

    def test_one_that_goes_away_is_no_full_disk(self, bucket: str, tmp_path: Path) -> None:
        class Broken(io.BytesIO):
            def read(self, _: int | None = -1, /) -> bytes:
                raise TimeoutError("the store went away")

        fetch = open_object_store(bucket)
        files, work = tmp_path / "files", tmp_path / "work"
        files.mkdir()
        work.mkdir()
        broken = replace(fetch, filesystem=SimpleNamespace(open=lambda *_: Broken()))
        with pytest.raises(SourceAwayError, match="the store went away"):
            broken.into(files, work, lambda *_: None)
