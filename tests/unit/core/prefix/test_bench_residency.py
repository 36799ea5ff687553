"""The bench runs and its rows are complete; its times are for quiet machines and are not judged here."""

from __future__ import annotations

from loadtest.bench.residency import PROMPT_TOKENS, REPLICAS, measure_index


def test_every_length_has_its_row() -> None:
    timings = measure_index(1, lookups=2, chunks=300)
    assert [row.prompt_tokens for row in timings] == list(PROMPT_TOKENS)
    for row in timings:
        assert row.replicas == REPLICAS
        assert row.index_chunks == REPLICAS * 300
        assert 0 < row.index_lookup_us <= row.index_lookup_p99_us
        assert 12 < row.index_bytes_per_chunk <= 48
