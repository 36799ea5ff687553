"""The hub source against a hub on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster.core.errors import ModelStoreError
from cluster.models import ranged_download
from cluster.models.card import HubSource
from cluster.models.hub import HubSettings, is_wanted
from cluster.models.store import ModelStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.models.conftest import Killed, Stages
    from tests.unit.models.loopback_hub import Hub


@pytest.fixture
def hub_store(hub: Hub, tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", settings=hub.settings(tmp_path))


def test_pull_brings_weights_and_configuration_only(hub: Hub, hub_store: ModelStore, stages: Stages) -> None:
    seen, note = stages
    path = hub_store.pull("org/model", progress=note)
    assert path == hub_store.root / "org--model" / hub.commit
    names = {file.name for file in path.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= names
    assert not {"modeling_evil.py", "pytorch_model.bin", "README.md"} & names
    assert all((path / name).read_bytes() == hub.files[name] for name in names & set(hub.files))
    assert seen == ["asking the model hub", "downloading", "hashing", "landing"]
    assert hub_store.path("org/model") == path
    assert hub_store.path("org/model", revision=hub.commit) == path
    status = hub_store.list()[-1]
    assert (status.card.id, status.card.source, status.complete) == (
        "org/model",
        HubSource(repository="org/model"),
        True,
    )


def test_a_second_pull_does_not_ask_the_hub(hub: Hub, hub_store: ModelStore) -> None:
    hub_store.pull("org/model")
    asked = len(hub.requests)
    hub_store.pull("org/model")
    assert len(hub.requests) == asked


def test_a_dropped_connection_is_picked_up(hub: Hub, hub_store: ModelStore) -> None:
    hub.cut_after_bytes = 300_000
    path = hub_store.pull("org/model")
    assert (path / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert hub.fetched("model.safetensors") == [None, "bytes=300000-"]


def test_a_killed_download_goes_on_where_it_stopped(hub: Hub, hub_store: ModelStore, killed: Killed) -> None:
    def pull(die: Callable[[], None]) -> None:
        def progress(stage: str, done_bytes: int, total_bytes: int | None) -> None:
            if stage == "downloading" and total_bytes is not None and done_bytes > total_bytes // 2:
                die()

        hub_store.pull("org/model", progress=progress)

    assert killed(pull)
    with pytest.raises(ModelStoreError, match="longreach models pull org/model"):
        hub_store.path("org/model")
    before = {name: len(hub.fetched(name)) for name in hub.files}
    hub_store.pull("org/model")
    hub_store.verify("org/model")
    ranges = hub.fetched("model.safetensors")
    assert ranges[0] is None
    assert ranges[-1] is not None
    assert ranges[-1].startswith("bytes=")
    assert len(hub.fetched("chat_template.jinja")) == before["chat_template.jinja"]  # whole before the kill: kept


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_changed_content_is_refused(hub: Hub, hub_store: ModelStore, name: str) -> None:
    hub.changed.add(name)
    with pytest.raises(ModelStoreError, match="other content than the hub's listing promised"):
        hub_store.pull("org/model")
    hub.changed.clear()
    hub_store.pull("org/model")
    hub_store.verify("org/model")


def test_resolve_reads_configuration_without_weights(hub: Hub, hub_store: ModelStore, tiny_folder: Path) -> None:
    card = hub_store.resolve("org/model")
    assert (card.id, card.revision, card.context_tokens) == ("org/model", hub.commit, 262_144)
    assert card.weights_bytes == (tiny_folder / "model.safetensors").stat().st_size
    assert card.tool_parser == "hermes"
    assert hub.fetched("model.safetensors") == []
    hub_store.pull("org/model")
    hub.requests.clear()
    assert hub_store.resolve("org/model").context_tokens == 262_144
    assert hub.requests == []


def test_the_token_file_is_sent_and_nothing_else_is(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "from-the-environment")
    ModelStore(tmp_path / "a", settings=hub.settings(tmp_path)).pull("org/model")
    assert hub.tokens == {None}
    token_file = tmp_path / "token"
    token_file.write_text("secret\n")
    hub.tokens.clear()
    ModelStore(tmp_path / "b", settings=hub.settings(tmp_path, token_file)).pull("org/model")
    assert hub.tokens == {"Bearer secret"}
    missing = ModelStore(tmp_path / "c", settings=hub.settings(tmp_path, tmp_path / "none"))
    with pytest.raises(ModelStoreError, match="token file"):
        missing.pull("org/model")


def test_an_unknown_repository_and_no_hub_read_differently(hub_store: ModelStore, store: ModelStore) -> None:
    with pytest.raises(ModelStoreError, match="has no other/model, or it is private"):
        hub_store.pull("other/model")
    with pytest.raises(ModelStoreError, match="cannot be asked"):
        store.pull("org/model")


@pytest.mark.parametrize("status", [401, 403])
def test_a_hub_that_refuses_is_told_with_the_variable_that_helps(hub: Hub, hub_store: ModelStore, status: int) -> None:
    hub.refuses_with = status
    with pytest.raises(ModelStoreError, match="HF_TOKEN_PATH"):
        hub_store.pull("org/model")


def test_pickles_alone_are_refused(hub: Hub, hub_store: ModelStore) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(ModelStoreError, match="no safetensors weights"):
        hub_store.pull("org/model")


def test_a_server_that_sends_nothing_is_given_up(
    hub: Hub, hub_store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranged_download, "RETRY_PAUSE_S", 0.0)
    hub.files["model.safetensors"] += b"promised"

    def shortened(url: str, part: Path, **_: object) -> str:
        return "refused"

    monkeypatch.setattr(ranged_download, "_get_rest", shortened)
    with pytest.raises(ModelStoreError, match="stopped at 0 of"):
        hub_store.pull("org/model")


def test_offline_takes_the_hub_clients_cache(tmp_path: Path, tiny_folder: Path) -> None:
    commit = "a" * 40
    repository = tmp_path / "hub-cache" / "models--org--model"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    blobs = repository / "blobs"
    blobs.mkdir()
    for file in tiny_folder.iterdir():  # as the client lays it out: snapshots link to blobs
        (blobs / file.name).write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    (snapshot / "evil.py").write_text("")
    store = ModelStore(tmp_path / "models", settings=HubSettings(offline=True, cache_dir=tmp_path / "hub-cache"))
    assert store.resolve("org/model").revision == commit
    path = store.pull("org/model")
    assert path.name == commit
    assert not (path / "evil.py").exists()
    assert not (path / "model.safetensors").is_symlink()
    with pytest.raises(ModelStoreError, match="not in the hub cache"):
        store.pull("org/another")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("model-00001-of-00003.safetensors", True),
        ("model.safetensors.index.json", True),
        ("tokenizer.model", True),
        ("merges.txt", True),
        ("LICENSE", True),
        ("pytorch_model.bin", False),
        ("modeling.py", False),
        ("onnx/config.json", False),
        ("../config.json", False),
        ("..", False),
        (".hidden.json", False),
        ("consolidated.safetensors", False),
    ],
)
def test_wanted_files(name: str, wanted: bool) -> None:
    assert is_wanted(name, {"model.safetensors.index.json"}) is wanted
