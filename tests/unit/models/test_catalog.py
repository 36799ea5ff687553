from __future__ import annotations

import pytest

from cluster.models.card import HubElseWheels, HubSource, ModelCard, Quantization
from cluster.models.catalog import CATALOG, DEMO_SHARDS, find
from cluster.models.sources import REPOSITORY, refer

GGUF_BYTES = 491_400_064
ENGINE_PARSERS = {"hermes", "qwen3", None}


def card(model_id: str) -> ModelCard:
    found = find(model_id)
    assert found is not None
    return found


def test_ids_are_unique_and_fit_a_folder_and_a_url() -> None:
    ids = [entry.id for entry in CATALOG]
    assert len(set(ids)) == len(ids)
    assert {"demo", "tiny", "qwen3-4b-instruct-2507", "qwen3-0.6b"} <= set(ids)
    assert all(set(model_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for model_id in ids)


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.id)
def test_an_entry_is_complete(entry: ModelCard) -> None:
    assert entry.context_tokens >= 32_768
    assert entry.kv_bytes_per_token > 0
    assert entry.weights_bytes > 1_000_000
    assert entry.licence
    assert entry.description
    assert entry.revision
    assert entry.tool_parser in ENGINE_PARSERS
    assert entry.reasoning_parser in ENGINE_PARSERS
    if isinstance(entry.source, HubSource):
        assert REPOSITORY.fullmatch(entry.source.repository)
    if entry.quantization is not Quantization.NONE:
        assert entry.quantization.value in entry.id


def test_kv_cache_of_the_reference_model_and_the_demo() -> None:
    assert card("qwen3-4b-instruct-2507").kv_bytes_per_token == 147_456
    assert card("qwen3-4b-instruct-2507").kv_bytes_per_token * 262_144 == 36 * 2**30
    assert card("demo").kv_bytes_per_token == 12_288


def test_sampling_of_the_reference_model() -> None:
    given = card("qwen3-4b-instruct-2507").sampling.given()
    assert given == {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0.0}


def test_demo_shards_make_the_published_file() -> None:
    assert sum(shard.member_bytes for shard in DEMO_SHARDS) == GGUF_BYTES
    prefixes = [shard.sha256[:8] for shard in DEMO_SHARDS]
    assert prefixes == ["92124822", "6c46825c", "be78c0df", "57839d17", "be3de184", "b3e606a2"]
    source = card("demo").source
    assert isinstance(source, HubElseWheels)
    assert source.wheels.sha256.startswith(source.wheels.revision.removeprefix("gguf-"))


def test_the_hub_id_of_an_entry_is_the_entry() -> None:
    reference = refer("Qwen/Qwen3-4B-Instruct-2507")
    assert reference.entry is card("qwen3-4b-instruct-2507")
    assert reference.id == "qwen3-4b-instruct-2507"
