"""The bench runs and its rows are complete; its figures are for quiet machines and are not judged here."""

from __future__ import annotations

from cluster.core.routing.candidates import CANDIDATES_MAX
from loadtest.bench.route import ENDPOINT_COUNTS, PROMPT_TOKENS, measure_routes


def test_every_size_and_length_has_its_row() -> None:
    seen: list[tuple[int, int]] = []
    timings = measure_routes(1, decisions=20, progress=lambda done, total: seen.append((done, total)))
    assert {(row.endpoints, row.prompt_tokens) for row in timings} == {
        (count, tokens) for count in ENDPOINT_COUNTS for tokens in PROMPT_TOKENS
    }
    assert all(0 < row.candidates <= CANDIDATES_MAX and 0 < row.p50_us <= row.p99_us for row in timings)
    assert seen[-1] == (len(timings), len(timings))
