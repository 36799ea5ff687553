from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster.core.errors import ModelStoreError, SourceAwayError
from cluster.models import object_store
from cluster.models.card import FolderSource, ObjectStoreSource
from cluster.models.hub import HubSettings
from cluster.models.manifest import MANIFEST_NAME
from cluster.models.object_store import open_object_store
from cluster.models.sources import parse_source
from cluster.models.store import ModelStore, default_root
from cluster.sockets import free_port

if TYPE_CHECKING:
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
    """A folder as the object store: listed, ranged and compared by the same client as a cloud's."""

    @pytest.fixture
    def bucket(self, tiny_folder: Path, tmp_path: Path) -> Path:
        folder = tmp_path / "a bucket" / "tiny"
        shutil.copytree(tiny_folder, folder)
        (folder / "run.py").write_bytes(b"raise SystemExit")
        (folder / "other").mkdir()
        (folder / "other" / "model.safetensors").write_bytes(b"of another model")
        return folder

    @pytest.fixture
    def folders(self, tmp_path: Path) -> tuple[Path, Path]:
        folders = tmp_path / "files", tmp_path / "work"
        for folder in folders:
            folder.mkdir()
        return folders

    def test_copies_the_wanted_files(
        self, bucket: Path, folders: tuple[Path, Path], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(object_store, "BLOCK_BYTES", 1 << 14)
        files, work = folders
        fetch = open_object_store(bucket.as_uri())
        content = (tiny_folder / "model.safetensors").read_bytes()
        (work / "model.safetensors").write_bytes(content[:1000])  # left by a killed copy
        seen: list[int] = []
        fetch.into(files, work, lambda _stage, done_bytes, _total: seen.append(done_bytes))
        assert {file.name for file in files.iterdir()} == {file.name for file in tiny_folder.iterdir()}
        assert (files / "model.safetensors").read_bytes() == content
        assert seen == sorted(seen)
        assert seen[-1] == fetch.peak_bytes
        assert len(seen) > len(content) >> 14

    def test_a_manifest_in_the_bucket_is_checked(
        self, bucket: Path, store: ModelStore, folders: tuple[Path, Path]
    ) -> None:
        shutil.copy(store.pull("tiny") / MANIFEST_NAME, bucket)
        (bucket / "config.json").write_bytes(b"{}")
        with pytest.raises(ModelStoreError, match=r"config\.json is not what its manifest says"):
            open_object_store(bucket.as_uri()).into(*folders, lambda *_: None)

    @pytest.mark.parametrize(
        ("text", "source"),
        [
            ("gs://bucket/a/b/", ObjectStoreSource(url="gs://bucket/a/b")),
            ("s3://bucket/a", ObjectStoreSource(url="s3://bucket/a")),
            ("az://account/container/a", ObjectStoreSource(url="az://account/container/a")),
        ],
    )
    def test_addresses(self, text: str, source: ObjectStoreSource) -> None:
        assert parse_source(text) == source

    def test_one_that_is_away_and_one_without_the_folder_differ(
        self, store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret of somebody's")
        with pytest.raises(SourceAwayError, match="cannot be listed") as away:
            store.pull("s3://bucket/model")
        assert "AWS_ACCESS_KEY_ID" in str(away.value)
        assert "a secret" not in str(away.value)
        (tmp_path / "empty").mkdir()
        for url in ((tmp_path / "empty").as_uri(), (tmp_path / "none").as_uri(), "az://account"):
            with pytest.raises(ModelStoreError, match=r"cannot be opened|has no safetensors weights") as caught:
                open_object_store(url)
            assert not isinstance(caught.value, SourceAwayError)

    def test_a_folder_that_changes_meanwhile_is_not_mixed(self, bucket: Path, folders: tuple[Path, Path]) -> None:
        fetch = open_object_store(bucket.as_uri())
        with (bucket / "model.safetensors").open("ab") as file:
            file.write(b"another upload")
        with pytest.raises(ModelStoreError, match=r"model\.safetensors stopped at 0 bytes") as caught:
            fetch.into(*folders, lambda *_: None)
        assert not isinstance(caught.value, SourceAwayError)
        assert not (folders[0] / "model.safetensors").exists()
